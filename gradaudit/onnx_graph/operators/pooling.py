"""Pooling by windows and over whole planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._pooling import (
    Grid,
    flat_indices,
    fused_padding,
    pooling_grid,
    slid,
)
from gradaudit.onnx_graph.operators._straight_through import held, holding
from gradaudit.onnx_graph.operators._windows import begin_end, padded, per_axis
from gradaudit.onnx_graph.registry import operator

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_GLOBAL_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_GLOBAL_MEAN = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    wanted: Sequence[bool],
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Each window's largest element, and where in X it lies if that is wanted."""
    grid = pooling_grid(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    at = grid.windows
    # torch's kernels take hardly any integers; those of a byte are exact as float32
    values = x if x.is_floating_point() else held(x, torch.float32)
    padding = fused_padding(grid, auto_pad)
    begins = (0,) * len(at.kernel)
    if padding is None:
        values = padded(values, grid.fitting, float("-inf"))
        begins = tuple(begin for begin, _ in grid.fitting)
        padding, ceil_mode = (0,) * len(at.kernel), 0
    indexed = len(wanted) > 1 and wanted[1]
    pool: Callable[..., Any] = _MAX[len(at.kernel)]
    found = pool(values, at.kernel, at.strides, padding, at.dilations, bool(ceil_mode), indexed)
    pooled = found[0] if indexed else found
    if not x.is_floating_point():
        pooled = holding(x.dtype, pooled)
    if not indexed:
        return pooled
    return pooled, flat_indices(found[1], values.shape[2:], begins, x.shape[2:], storage_order)


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Each window's mean, over the elements of X or the padding too."""
    grid = pooling_grid(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    at = grid.windows
    padding = fused_padding(grid, auto_pad)
    # torch has no kernel for these on CPU
    lacking = x.dim() == 5 and x.dtype in (torch.float16, torch.bfloat16) and x.device.type == "cpu"
    if padding is not None and set(at.dilations) == {1} and not lacking:
        average = _AVERAGE[len(at.kernel)]
        pooled: Tensor = average(
            x, at.kernel, at.strides, padding, bool(ceil_mode), bool(count_include_pad)
        )
        return pooled
    x = padded(x, grid.fitting)
    for axis in range(len(at.kernel)):
        counts = torch.tensor(grid.counts(axis, bool(count_include_pad)), device=x.device)
        shape = (-1, *[1] * (len(at.kernel) - 1 - axis))
        x = slid(x, at, axis).sum(-1) / counts.to(x.dtype).reshape(shape)
    return x


@operator("LpPool", since=2)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Each window's ``(Σ |x|^p)^(1/p)``."""
    grid = pooling_grid(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # powers leave what halves can hold
    sums = _sums((wide if p % 2 == 0 else wide.abs()).pow(p), grid)
    # where all are zeros the root has no derivative, and zero is one of its subgradients
    some = sums != 0
    return torch.where(some, torch.where(some, sums, 1).pow(1 / p), sums).to(x.dtype)


def _sums(x: Tensor, grid: Grid) -> Tensor:
    x, at = padded(x, grid.fitting), grid.windows
    if set(at.dilations) == {1}:
        average: Callable[..., Tensor] = _AVERAGE[len(at.kernel)]
        return average(x, at.kernel, at.strides) * torch.Size(at.kernel).numel()
    for axis in range(len(at.kernel)):
        x = slid(x, at, axis).sum(-1)
    return x


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """The mean of each plane: (N, C, ...) to (N, C, 1, ...)."""
    pool = _GLOBAL_MEAN.get(x.dim() - 2)
    return x.mean(_plane(x), keepdim=True) if pool is None else pool(x, 1)


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """The largest element of each plane: (N, C, ...) to (N, C, 1, ...)."""
    pool = _GLOBAL_MAX.get(x.dim() - 2)
    return x.amax(_plane(x), keepdim=True) if pool is None else pool(x, 1)


@operator("GlobalLpPool", since=2)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """``(Σ |x|^p)^(1/p)`` of each plane: (N, C, ...) to (N, C, 1, ...)."""
    return torch.linalg.vector_norm(x, p, dim=_plane(x), keepdim=True)


def _plane(x: Tensor) -> tuple[int, ...]:
    if x.dim() < 3:
        raise ValueError(f"expected an input (N, C, ...), found shape {list(x.shape)}")
    return tuple(range(2, x.dim()))


@operator("MaxUnpool", since=9)
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Zeros, but for X's elements where MaxPool's ``indices`` say that they lay."""
    rank = x.dim() - 2
    kernel, steps = per_axis(kernel_shape, rank, "kernel_shape"), per_axis(strides, rank, "strides")
    sizes = [
        (n - 1) * step - begin - end + k
        for n, step, (begin, end), k in zip(
            x.shape[2:], steps, begin_end(pads, rank), kernel, strict=True
        )
    ]
    shape = torch.Size((*x.shape[:2], *sizes))
    flat = x.new_zeros(shape.numel()).scatter(0, indices.flatten(), x.flatten())
    if output_shape is None:
        return flat.reshape(shape)
    whole = [(0, to - n) for n, to in zip(shape, output_shape.tolist(), strict=True)]
    return padded(flat.reshape(shape), tuple(whole))
