"""Elements taken by index, and put by index."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from gradaudit.onnx_graph.operators._axes import axis_in, from_front, one_of
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator

_REDUCTIONS = {"mul": "prod", "min": "amin", "max": "amax"}


@operator("Gather")
@moves_strings
def gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Slices along ``axis``, with the axes of ``indices`` in its place."""
    axis = axis_in(axis, data.dim())
    size = data.shape[axis]
    try:
        if indices.dim() == 0:
            return data.select(axis, int(indices))  # no copy
        index = from_front(indices, size)
        if axis == 0 and data.dim() == 2 and data.is_floating_point():
            return F.embedding(index, data)
        shape = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
        return data.index_select(axis, index.reshape(-1)).reshape(shape)
    except (IndexError, RuntimeError) as error:
        low, high = int(indices.min()), int(indices.max())
        if -size <= low and high < size:
            raise
        raise ValueError(f"indices {low} to {high} into axis {axis} of size {size}") from error


@operator("GatherElements")
@moves_strings
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """``data[indices[i, j], j]``, so for axis 0 and rank 2."""
    axis = axis_in(axis, data.dim())
    return torch.gather(data, axis, from_front(indices, data.shape[axis]))


@operator("GatherND")
@moves_strings
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices ``data[b, indices[b, ..., :]]``, with ``batch_dims`` leading axes in common."""
    if data.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(
            f"data {list(data.shape)} and indices {list(indices.shape)} "
            f"without {batch_dims} axes in common"
        )
    batches = [
        torch.arange(size, device=data.device).reshape(-1, *[1] * (indices.dim() - 2 - axis))
        for axis, size in enumerate(data.shape[:batch_dims])
    ]
    return data[(*batches, *indices.long().unbind(-1))]


@operator("Scatter", "ScatterElements")
@moves_strings
def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """``data`` with ``updates[i, j]`` put or reduced at ``[indices[i, j], j]``, so for axis 0."""
    axis = axis_in(axis, data.dim())
    return _scattered(data, axis, from_front(indices, data.shape[axis]), updates, reduction)


@operator("ScatterND")
@moves_strings
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none"
) -> Tensor:
    """``data`` with the slices ``updates[i]`` put or reduced at ``indices[i, :]``."""
    depth = indices.shape[-1]
    expected = (*indices.shape[:-1], *data.shape[depth:])
    if depth > data.dim() or tuple(updates.shape) != expected:
        raise ValueError(
            f"updates {list(updates.shape)} at indices {list(indices.shape)} "
            f"into data {list(data.shape)}, where {list(expected)} were expected"
        )
    rows = data.reshape(prod(data.shape[:depth]), prod(data.shape[depth:]))
    row = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for position, size in zip(indices.unbind(-1), data.shape, strict=False):
        row = row * size + from_front(position, size)
    index = row.reshape(-1, 1).expand(-1, rows.shape[1])
    put = updates.reshape(index.shape)
    if reduction == "none":  # the same, and faster by rows
        return rows.index_put((row.reshape(-1),), put).reshape(data.shape)
    return _scattered(rows, 0, index, put, reduction).reshape(data.shape)


def _scattered(data: Tensor, axis: int, index: Tensor, updates: Tensor, reduction: str) -> Tensor:
    one_of(reduction, "none", "add", *_REDUCTIONS)
    if reduction == "none":
        return data.scatter(axis, index, updates)
    if reduction == "add":
        return data.scatter_add(axis, index, updates)
    return data.scatter_reduce(axis, index, updates, _REDUCTIONS[reduction])


@operator("TensorScatter")
def tensor_scatter(
    past_cache: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """``past_cache`` with ``update`` written along ``axis`` from ``write_indices[b]`` on."""
    one_of(mode, "linear", "circular")
    axis = axis_in(axis, past_cache.dim())
    if axis == 0:
        raise ValueError("axis 0, the batch's, where that of the sequence was expected")
    batch, length = past_cache.shape[0], past_cache.shape[axis]
    time = torch.arange(update.shape[axis], device=update.device).unsqueeze(0).expand(batch, -1)
    position = time if write_indices is None else time + write_indices.long().unsqueeze(1)
    if mode == "circular":
        position = position % length
    by_time = past_cache.movedim(axis, 1)
    rows = torch.arange(batch, device=update.device).unsqueeze(1)
    written = by_time.index_put((rows, position), update.movedim(axis, 1))
    return written.movedim(1, axis)
