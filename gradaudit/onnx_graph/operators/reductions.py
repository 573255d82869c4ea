"""Reductions over axes, and cumulative sums and products along one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

# of a tensor, the axes, of which there may be none, and whether these stay as axes of size 1
Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _own(x: Tensor) -> torch.dtype | None:
    """What to sum in: integers as they are; of floats torch knows, under autocast too."""
    return None if x.is_floating_point() else x.dtype


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=_own(x)) if axes else x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not axes:
        return x
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    total = x.sum(axes, keepdim=keep)
    count = x.numel() // max(total.numel(), 1)
    return torch.div(total, count, rounding_mode="trunc").to(x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=_own(x))
    return x


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.linalg.vector_norm(x, 2, axes, keepdim=keep) if axes else x.abs()


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep) if axes else x


def _extreme(fold: Callable[..., Tensor], sign: int) -> Reduction:
    """``fold`` is amax or amin, which torch does not take over nothing at all."""

    def reduce(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if not axes:
            return x
        if all(x.shape[axis] for axis in axes):
            return fold(x, axes, keepdim=keep)
        shape = x.sum(axes, keepdim=keep).shape
        return torch.full(shape, _least(x.dtype, sign), dtype=x.dtype, device=x.device)

    return reduce


def _least(dtype: torch.dtype, sign: int) -> float | int | bool:
    """The type's lowest value, or with ``sign`` -1 its highest."""
    if dtype.is_floating_point:
        return -sign * float("inf")
    if dtype == torch.bool:
        return sign < 0
    return torch.iinfo(dtype).min if sign > 0 else torch.iinfo(dtype).max


def _in_floats(reduction: Reduction) -> Reduction:
    """Integers go through float64, and lose what is behind the point."""

    def reduce(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.is_floating_point():
            return reduction(x, axes, keep)
        return reduction(x.double(), axes, keep).to(x.dtype)

    return reduce


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _in_floats(_l2),
    "ReduceLogSum": _in_floats(lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": _in_floats(_log_sum_exp),
    "ReduceMax": _extreme(torch.amax, 1),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(torch.amin, -1),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


def _axes_as_attribute(reduction: Reduction) -> Callable[..., Tensor]:
    def reduce(x: Tensor, *, axes: Sequence[int] = (), keepdims: int = 1) -> Tensor:
        return reduction(x, list(axes) or list(range(x.dim())), bool(keepdims))

    return reduce


def _axes_as_input(reduction: Reduction) -> Callable[..., Tensor]:
    def reduce(
        x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        chosen = [] if axes is None else axes.reshape(-1).tolist()
        if not chosen and not noop_with_empty_axes:
            chosen = list(range(x.dim()))
        return reduction(x, chosen, bool(keepdims))

    return reduce


for _name, _reduction in _REDUCTIONS.items():
    operator(_name)(_axes_as_attribute(_reduction))
    operator(_name, since=13 if _name == "ReduceSum" else 18)(_axes_as_input(_reduction))


@operator("ArgMax")
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The index of the largest entry along the axis, the first of several or the last."""
    if select_last_index:
        last = torch.argmax(x.flip(axis), axis, keepdim=bool(keepdims))
        return x.shape[axis] - 1 - last
    return torch.argmax(x, axis, keepdim=bool(keepdims))


@operator("ArgMin")
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The index of the smallest entry along the axis, the first of several or the last."""
    if select_last_index:
        last = torch.argmin(x.flip(axis), axis, keepdim=bool(keepdims))
        return x.shape[axis] - 1 - last
    return torch.argmin(x, axis, keepdim=bool(keepdims))


@operator("CumSum", since=11)
def cumulative_sum(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """``y_j = Σ_{i≤j} x_i`` along the axis, without ``x_j`` itself if exclusive."""
    ready, back = _shifted(x, int(axis), 0, exclusive, reverse)
    return back(torch.cumsum(ready, int(axis), dtype=_own(x)))


@operator("CumProd", since=26)
def cumulative_product(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """``y_j = Π_{i≤j} x_i`` along the axis, without ``x_j`` itself if exclusive."""
    ready, back = _shifted(x, int(axis), 1, exclusive, reverse)
    return back(torch.cumprod(ready, int(axis), dtype=_own(x)))


def _shifted(
    x: Tensor, axis: int, first: int, exclusive: int, reverse: int
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What to accumulate, and how to turn the result round again."""
    x = x.flip(axis) if reverse else x
    if exclusive:
        start = torch.full_like(x.narrow(axis, 0, min(1, x.shape[axis])), first)
        x = torch.cat([start, x.narrow(axis, 0, max(0, x.shape[axis] - 1))], axis)
    return x, (lambda y: y.flip(axis)) if reverse else (lambda y: y)
