"""Elements chosen by their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import as_ints, axis_in, from_front
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator


@operator("OneHot", since=9)
@moves_strings
def one_hot_from_front(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """``values[1]`` where the new axis' position is the index and ``values[0]`` elsewhere."""
    return _one_hot(indices.long(), int(as_ints(depth)[0]), values, axis)


@operator("OneHot", since=11)
@moves_strings
def one_hot(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """As before opset 11, with negative indices counted from the end."""
    size = int(as_ints(depth)[0])
    return _one_hot(from_front(indices, size), size, values, axis)


def _one_hot(index: Tensor, size: int, values: Tensor, axis: int) -> Tensor:
    rank = index.dim() + 1
    axis = axis_in(axis, rank)
    position = torch.arange(size, device=index.device)
    position = position.reshape([size if i == axis else 1 for i in range(rank)])
    return torch.where(index.unsqueeze(axis) == position, values[1], values[0])


@operator("NonZero")
def non_zero(x: Any) -> Tensor:
    """``[rank, count]``: where the elements that are not zero lie, in order."""
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(np.asarray(x != "", dtype=bool))
    return x.nonzero().T


@operator("TopK")
def top_k_of_attribute(x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest elements along ``axis`` in order, and where they lie."""
    return _top(x, k, axis, largest=True)


@operator("TopK", since=10)
def top_k(
    x: Tensor,
    k: Tensor,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest or smallest elements along ``axis`` in order, and where they lie."""
    return _top(x, as_ints(k)[0], axis, largest=bool(largest))


def _top(x: Tensor, k: int, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    axis = axis_in(axis, x.dim())
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"the top {k} of an axis of size {x.shape[axis]}")
    # not torch.topk: of equal elements the first comes first
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


@operator("Unique")
def unique(
    x: Any,
    *,
    axis: int | None = None,
    sorted: int = 1,  # noqa: A002
) -> tuple[Any, Tensor, Tensor, Tensor]:
    """The different elements (slices along ``axis``), where each is first, and how often it occurs.

    Before the last of these: for each element, which of the different ones it is.
    """
    if isinstance(x, np.ndarray):
        names, ranks = np.unique(x.astype(str), return_inverse=True)
        found, *rest = unique(torch.from_numpy(ranks.reshape(x.shape)), axis=axis, sorted=sorted)
        return (names.astype(object)[found.numpy()], *rest)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_in(axis, x.dim())
    _, inverse, counts = torch.unique(
        x.detach(), return_inverse=True, return_counts=True, dim=axis if x.dim() > 1 else None
    )
    place = torch.arange(x.shape[axis], device=x.device)
    first = torch.full_like(counts, x.shape[axis]).scatter_reduce(0, inverse, place, "amin")
    if not sorted:
        order = first.argsort()
        first, counts = first[order], counts[order]
        inverse = order.argsort()[inverse]
    return x.index_select(axis, first), first, inverse, counts


@operator("NonMaxSuppression")
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Tensor | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """``[count, 3]`` of batch, class and box: boxes of high scores that overlap no better one."""
    most = 0 if max_output_boxes_per_class is None else as_ints(max_output_boxes_per_class)[0]
    overlap = 0.0 if iou_threshold is None else iou_threshold.item()
    corners = _corners(boxes.detach(), centered=bool(center_point_box))
    chosen = []
    for batch, of_batch in enumerate(scores.detach().unbind()):
        for kind, score in enumerate(of_batch.unbind()):
            order = score.argsort(descending=True, stable=True)
            if score_threshold is not None:
                order = order[score[order] > score_threshold.reshape(())]
            kept = _kept(corners[batch], order, most, overlap)
            chosen += [(batch, kind, box) for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _corners(boxes: Tensor, *, centered: bool) -> Tensor:
    """``[batch, box, 4]``: both lower coordinates, then both upper ones."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centered:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)


def _kept(corners: Tensor, order: Tensor, most: int, overlap: float) -> Sequence[int]:
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[~(_iou(corners[best], corners[order]) > overlap)]
    return kept


def _iou(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union; not a number where both are empty."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared)
