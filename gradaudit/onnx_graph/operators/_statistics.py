"""Statistics that normalizations share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._constants import varies
from gradaudit.onnx_graph.tensors import DTYPES


def stashed(x: Tensor, stash_type: int) -> Tensor:
    """``x`` in the type in which to normalize it, or its own where that is wider."""
    if stash_type not in DTYPES:
        raise ValueError(f"expected stash_type to be a floating type, found {stash_type}")
    return x.to(torch.promote_types(x.dtype, DTYPES[stash_type]))


def batch_normalized(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float,
    training: bool,
) -> tuple[Tensor, Callable[[], tuple[Tensor, Tensor]]]:
    """The normalized batch (N, C, ...), and a function that gives the batch's mean and variance."""
    batch = x[:, None] if x.dim() == 1 else x
    kind = x.dtype
    for each in (scale, bias, mean, var):
        kind = kind if each.dtype == kind else torch.promote_types(kind, each.dtype)
    batch = batch.to(kind)
    scale, bias, mean, var = (each.to(kind) for each in (scale, bias, mean, var))

    def statistics() -> tuple[Tensor, Tensor]:
        axes = (0, *range(2, batch.dim()))
        exact = batch.to(torch.promote_types(kind, torch.float32))
        spread, centre = torch.var_mean(exact, axes, correction=0)
        return centre, spread

    if training:
        y = F.batch_norm(batch, None, None, scale, bias, True, eps=epsilon)
    elif varies(mean) or varies(var):  # torch's own has no derivative in these
        factor = scale * torch.rsqrt(var + epsilon)
        shape = (-1, *[1] * (batch.dim() - 2))
        y = (batch - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
    else:
        y = F.batch_norm(batch, mean, var, scale, bias, False, eps=epsilon)
    y = y if kind == x.dtype else y.to(x.dtype)
    return (y[:, 0] if x.dim() == 1 else y), statistics
