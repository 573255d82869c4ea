"""Products and activations as onnxruntime's optimizer fuses them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._convolution import convolved
from gradaudit.onnx_graph.operators._gates import activation as activation_named
from gradaudit.onnx_graph.registry import operator

DOMAIN = "com.microsoft"


@operator("FusedMatMul", "TransposeMatMul", domain=DOMAIN)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    """``alpha A B``, of factors with the last two, or the leading dimensions exchanged."""
    y = torch.matmul(_turned(a, transA, transBatchA), _turned(b, transB, transBatchB))
    return y if alpha == 1 else alpha * y


def _turned(x: Tensor, last: int, leading: int) -> Tensor:
    if leading and x.dim() > 2:
        x = x.movedim(0, -2)
    return x.mT if last and x.dim() > 1 else x


@operator("FusedGemm", domain=DOMAIN)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``activation(alpha A B + beta C)``."""
    a, weight = a.mT if transA else a, b if transB else b.mT
    if alpha == 1 and beta == 1 and (c is None or c.dim() == 1):
        y = F.linear(a, weight, c)
    else:
        y = alpha * (a @ weight.mT)
        y = y if c is None else y + beta * c
    values = [each for each in (activation_alpha, activation_beta) if each is not None]
    return activation_named(activation, values)(y) if activation else y


@operator("Gelu", domain=DOMAIN)
def gelu(x: Tensor) -> Tensor:
    """``x Φ(x)``."""
    return F.gelu(x)


@operator("BiasGelu", domain=DOMAIN)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """``(x + b) Φ(x + b)``."""
    return F.gelu(x + bias)


@operator("FastGelu", domain=DOMAIN)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """``gelu(x + b)`` by its approximation with ``tanh``."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("QuickGelu", domain=DOMAIN)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """``x σ(alpha x)``."""
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("BiasSplitGelu", domain=DOMAIN)
def bias_split_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Half of ``x + b``, times the gelu of the other."""
    value, gate = (x + bias).chunk(2, -1)
    return value * F.gelu(gate)


@operator("FusedConv", domain=DOMAIN)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """``activation(conv(x) + b + z)``."""
    if x.dim() not in (3, 4, 5):
        raise ValueError(f"expected an input of 3 to 5 dimensions, found {x.dim()}")
    y = convolved(
        x,
        w,
        b,
        auto_pad=auto_pad or "NOTSET",
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    y = y if z is None else y + z
    return activation_named(activation, activation_params)(y) if activation else y
