"""What several nodes are computed as: operators of gradaudit's own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

DOMAIN = "gradaudit"


@operator("Dense", domain=DOMAIN)
def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` for ``x`` of shape (..., n) and ``weight`` (m, n)."""
    return F.linear(x, weight, bias)


@operator("BiasedMatMul", domain=DOMAIN)
def biased_matmul(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W + b`` for ``x`` of shape (..., n) and ``weight`` (n, m)."""
    return F.linear(x, weight.T, bias)


@operator("Gelu", domain=DOMAIN)
def gelu(x: Tensor) -> Tensor:
    """``x`` times the normal law's distribution function."""
    return F.gelu(x)


@operator("Passed", domain=DOMAIN)
def passed(x: Tensor) -> Tensor:
    """The value itself: what the node does is done already."""
    return x
