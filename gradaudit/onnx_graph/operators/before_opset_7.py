"""Operators as they were before opset 7: one-sided broadcasting by attributes, and a test flag."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._statistics import batch_normalized
from gradaudit.onnx_graph.registry import operator

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
}


def _aligned(a: Tensor, b: Tensor, broadcast: int, axis: int | None) -> Tensor:
    """``b`` with its dimensions where ``a``'s are that it goes with: from ``axis`` on, or last."""
    if not broadcast:
        if a.shape != b.shape:
            raise ValueError(f"expected equal shapes without broadcast, not {list(b.shape)}")
        return b
    behind = 0 if axis is None else a.dim() - (axis % a.dim()) - b.dim()
    return b.reshape((*b.shape, *[1] * behind))


def _register(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(name)
    def binary(
        a: Tensor,
        b: Tensor,
        *,
        axis: int | None = None,
        broadcast: int = 0,
        consumed_inputs: Sequence[int] | None = None,
    ) -> Tensor:
        return function(a, _aligned(a, b, broadcast, axis))


for _name, _function in _BINARY.items():
    _register(_name, _function)


@operator("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``alpha A B + beta C``, ``A`` and ``B`` transposed where asked."""
    a, b = a.T if transA else a, b.T if transB else b
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


@operator("PRelu")
def prelu(x: Tensor, slope: Tensor, *, consumed_inputs: Sequence[int] | None = None) -> Tensor:
    """``x`` where positive, elsewhere ``slope x``; a slope for all, or one per channel."""
    channels = slope.reshape((-1, *[1] * (x.dim() - 2))) if slope.numel() > 1 else slope
    return torch.where(x < 0, channels * x, x)


@operator("BatchNormalization")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    consumed_inputs: Sequence[int] | None = None,
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
    outputs: int = 1,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * scale + bias`` with the statistics given, as in testing."""
    if not is_test and outputs > 1:
        raise ValueError("training batch normalization of opsets before 7 is not supported")
    flat = x if spatial else x.flatten(1)
    parameters = (each.flatten() for each in (scale, bias, mean, var))
    y, _ = batch_normalized(flat, *parameters, epsilon=epsilon, training=False)
    return y.reshape(x.shape)
