"""Tensors joined, cut into parts, and sliced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import as_ints, axes_in, axis_in
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator


@operator("Concat", as_stored=True)
@moves_strings
def concat(*parts: Tensor, axis: int = 1) -> Tensor:
    """The parts after one another along ``axis``."""
    return torch.cat(parts, axis)


@operator("Split", as_stored=True)
def split_by_attribute(
    x: Tensor,
    sizes: Tensor | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Parts of the sizes in ``split`` along ``axis``, or equal ones."""
    return _split(x, split if sizes is None else sizes, axis, len(wanted), even=True)


@operator("Split", since=13, as_stored=True)
@moves_strings
def split_evenly(
    x: Tensor,
    split: Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,  # of later versions; torch's exporter writes it here too
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Parts of the sizes in ``split`` along ``axis``, or equal ones."""
    return _split(x, split, axis, len(wanted), even=True)


@operator("Split", since=18, as_stored=True)
@moves_strings
def split(
    x: Tensor,
    split: Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Parts of the sizes in ``split`` along ``axis``, or equal ones but for a smaller last."""
    if num_outputs not in (None, len(wanted)):
        raise ValueError(f"num_outputs is {num_outputs} where the node has {len(wanted)}")
    return _split(x, split, axis, len(wanted), even=False)


def _split(
    x: Tensor, sizes: Tensor | Sequence[int] | None, axis: int, parts: int, *, even: bool
) -> tuple[Tensor, ...]:
    axis = axis_in(axis, x.dim())
    length = x.shape[axis]
    if sizes is None:
        if even and length % parts:
            raise ValueError(f"an axis of size {length} in {parts} equal parts")
        most = -(-length // parts)
        sizes = [max(min(most, length - i * most), 0) for i in range(parts)]
    sizes = as_ints(sizes)
    if sum(sizes) != length:
        raise ValueError(f"an axis of size {length} in parts of sizes {sizes}")
    return torch.split(x, sizes, axis)


@operator("Slice", as_stored=True)
def slice_by_attributes(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    """``x[start:end]`` along each of the axes."""
    return _sliced(x, list(starts), list(ends), axes, [1] * len(starts))


@operator("Slice", since=10)
@moves_strings
def slice_by_inputs(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """``x[start:end:step]`` along each of the axes; a negative step goes backwards."""
    first = as_ints(starts)
    return _sliced(
        x, first, as_ints(ends), axes, as_ints([1] * len(first) if steps is None else steps)
    )


def _sliced(
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: Tensor | Sequence[int] | None,
    steps: list[int],
) -> Tensor:
    along = axes_in(range(len(starts)) if axes is None else axes, x.dim())
    if not len(starts) == len(ends) == len(along) == len(steps):
        counts = f"{len(starts)} starts, {len(ends)} ends, {len(along)} axes, {len(steps)} steps"
        raise ValueError(f"{counts} of a slice, not as many of each")
    if 0 in steps:
        raise ValueError(f"steps {steps} of a slice, one of them 0")
    index = [slice(None)] * x.dim()
    backwards = []
    for axis, start, end, step in zip(along, starts, ends, steps, strict=True):
        chosen = _chosen(start, end, step, x.shape[axis])
        if step < 0:
            backwards.append(axis)
            chosen = chosen[::-1]
        index[axis] = slice(chosen.start, chosen.stop, chosen.step)
    sliced = x[tuple(index)]
    return sliced.flip(backwards) if backwards else sliced


def _chosen(start: int, end: int, step: int, size: int) -> range:
    """Positions on an axis; the start is clamped onto the axis where the step is negative."""
    if step < 0 and start < -size:
        start = 0
    first, last, step = slice(start, end, step).indices(size)
    found = range(first, last, step)
    return found if found else range(0, 0, step)


@operator("Compress")
@moves_strings
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Slices along ``axis`` (elements of the flattened tensor) where the condition holds."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    chosen = condition.reshape(-1).nonzero().reshape(-1)
    return x.index_select(axis_in(axis, x.dim()), chosen)


@operator("ReverseSequence")
@moves_strings
def reverse_sequence(
    x: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """The first ``sequence_lens[b]`` elements of each sequence in reverse, the rest as it is."""
    axes = (batch_axis, time_axis)
    by_batch = x.movedim(axes, (0, 1))
    lengths = sequence_lens.long().unsqueeze(1)
    time = torch.arange(by_batch.shape[1], device=x.device).unsqueeze(0)
    source = torch.where(time < lengths, lengths - 1 - time, time)
    batch = torch.arange(by_batch.shape[0], device=x.device).unsqueeze(1)
    return by_batch[batch, source].movedim((0, 1), axes)
