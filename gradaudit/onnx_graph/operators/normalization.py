"""Normalization by statistics of batches, layers, groups and neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._statistics import batch_normalized, stashed
from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import DTYPES

_EPSILON = 1e-5


@operator("BatchNormalization", since=7)
def batch_normalization_by_outputs(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    outputs: int,
    wanted: Sequence[bool],
    epsilon: float = _EPSILON,
    momentum: float = 0.9,
    spatial: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """:func:`batch_normalization` that trains where more than the first output has a name; without
    ``spatial`` each element of a plane has its own statistics.
    """
    flat = x if spatial else x.flatten(1)
    parameters = [each.flatten() for each in (scale, bias, mean, var)]
    y, statistics = batch_normalized(flat, *parameters, epsilon=epsilon, training=outputs > 1)
    y = y.reshape(x.shape)
    if not any(wanted[1:]):
        return y
    saved = [each.to(x.dtype).reshape(mean.shape) for each in statistics()]
    moved = [
        old * momentum + new * (1 - momentum) for old, new in zip((mean, var), saved, strict=True)
    ]
    return y, *moved, *saved


@operator("BatchNormalization", since=14)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    wanted: Sequence[bool],
    epsilon: float = _EPSILON,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """``(x - mean) / sqrt(var + eps) * scale + bias`` with the given statistics, or in training
    the batch's, which then move the given ones.
    """
    y, statistics = batch_normalized(
        x, scale, bias, mean, var, epsilon=epsilon, training=bool(training_mode)
    )
    if not training_mode or not any(wanted[1:]):
        return y
    moved = [
        old * momentum + new.to(old.dtype) * (1 - momentum)
        for old, new in zip((mean, var), statistics(), strict=True)
    ]
    return y, *moved


@operator("InstanceNormalization")
def instance_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = _EPSILON
) -> Tensor:
    """Each plane of (N, C, ...) less its mean, over its standard deviation, scaled by channel."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@operator("GroupNormalization", since=18)
def group_normalization_by_group(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = _EPSILON
) -> Tensor:
    """:func:`group_normalization` with one scale and bias for each group."""
    each = x.shape[1] // num_groups
    return F.group_norm(
        x, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon
    )


@operator("GroupNormalization", since=21)
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = _EPSILON,
    stash_type: int = 1,
) -> Tensor:
    """Groups of channels less their mean, over their standard deviation, scaled by channel."""
    wide = stashed(x, stash_type)
    if wide.dtype == x.dtype or stash_type == 1:  # torch itself keeps halves' sums in float32
        return F.group_norm(x, num_groups, scale, bias, epsilon)
    shape = (-1, *[1] * (x.dim() - 2))
    normal = F.group_norm(wide, num_groups, None, None, epsilon).to(x.dtype)
    return normal * scale.reshape(shape) + bias.reshape(shape)


@operator("LayerNormalization", since=17)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    wanted: Sequence[bool],
    axis: int = -1,
    epsilon: float = _EPSILON,
    stash_type: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """The axes from ``axis`` on less their mean, over their standard deviation; scale and bias."""
    shape = x.shape[axis % x.dim() :]
    plain = scale.shape == shape and (bias is None or bias.shape == shape)
    if plain and (stash_type == 1 or stashed(x, stash_type).dtype == x.dtype):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(stashed(x, stash_type), shape, None, None, epsilon).to(x.dtype) * scale
        y = y if bias is None else y + bias
    if not any(wanted[1:]):
        return y
    axes = tuple(range(axis % x.dim(), x.dim()))
    var, mean = torch.var_mean(stashed(x, stash_type), axes, correction=0, keepdim=True)
    kept = DTYPES[stash_type]
    return y, mean.to(kept), torch.rsqrt(var + epsilon).to(kept)


@operator("RMSNormalization", since=23)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = _EPSILON, stash_type: int = 1
) -> Tensor:
    """``x / sqrt(mean(x²) + eps) * scale`` over the axes from ``axis`` on, in scale's type."""
    shape = x.shape[axis % x.dim() :]
    wide = stashed(x, stash_type)
    if scale.shape == shape and scale.dtype == x.dtype == wide.dtype:
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(wide, shape, None, epsilon).to(x.dtype).to(scale.dtype) * scale


@operator("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """``x / ||x||_p`` along an axis; zeros stay zeros."""
    if p not in (1, 2):
        raise ValueError(f"expected p to be 1 or 2, found {p}")
    norm = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


@operator("MeanVarianceNormalization", since=9)
def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """``(x - mean) / (std + 1e-9)`` over ``axes``."""
    deviation, mean = torch.std_mean(x, tuple(axes), correction=0, keepdim=True)
    return (x - mean) / (deviation + 1e-9)


@operator("LRN")
def lrn(
    x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """``x / (bias + alpha / size * Σ x²)^beta``, the sum over ``size`` channels around."""
    # torch has no kernel for halves' sums on CPU
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if size % 2:
        return F.local_response_norm(wide, size, alpha, beta, bias).to(x.dtype)
    # an even window reaches one channel further up here, and further down in torch
    return F.local_response_norm(wide.flip(1), size, alpha, beta, bias).flip(1).to(x.dtype)
