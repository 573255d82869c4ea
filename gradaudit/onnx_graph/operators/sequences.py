"""Sequences of tensors, and values that may be missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import as_ints, axis_in
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator


@operator("SequenceEmpty")
def sequence_empty(*, dtype: int = 1) -> list[Any]:
    """A sequence of none."""
    return []


@operator("SequenceConstruct", as_stored=True)
def sequence_construct(*tensors: Any) -> list[Any]:
    """A sequence of the tensors."""
    return list(tensors)


@operator("SequenceAt", as_stored=True)
def sequence_at(sequence: list[Any], position: Tensor) -> Any:
    """The tensor there; a negative position counts from the end."""
    return sequence[_position(position, -len(sequence), len(sequence) - 1)]


@operator("SequenceInsert", as_stored=True)
def sequence_insert(sequence: list[Any], tensor: Any, position: Tensor | None = None) -> list[Any]:
    """With the tensor before the one at ``position``, or at the end."""
    size = len(sequence)
    place = size if position is None else _position(position, -size, size)
    return [*sequence[:place], tensor, *sequence[place:]]


@operator("SequenceErase", as_stored=True)
def sequence_erase(sequence: list[Any], position: Tensor | None = None) -> list[Any]:
    """Without the tensor at ``position``, or without the last."""
    size = len(sequence)
    place = size - 1 if position is None else _position(position, -size, size - 1) % size
    return [*sequence[:place], *sequence[place + 1 :]]


def _position(position: Tensor, low: int, high: int) -> int:
    found = as_ints(position)[0]
    if not low <= found <= high:
        raise ValueError(f"position {found} where {low} to {high} were expected")
    return found


@operator("SequenceLength")
def sequence_length(sequence: list[Any]) -> Tensor:
    """How many tensors it has."""
    device = next((each.device for each in sequence if isinstance(each, Tensor)), None)
    return torch.tensor(len(sequence), dtype=torch.int64, device=device)


@operator("SplitToSequence", as_stored=True)
@moves_strings
def split_to_sequence(
    x: Tensor, split: Tensor | None = None, *, axis: int = 0, keepdims: int = 1
) -> list[Tensor]:
    """Parts along ``axis``: of the sizes in ``split``, of that size if it is a scalar, or of 1."""
    axis = axis_in(axis, x.dim())
    if split is None:
        return list(torch.split(x, 1, axis) if keepdims else x.unbind(axis))
    sizes = as_ints(split)
    if split.dim() == 0:
        return list(torch.split(x, sizes[0], axis))
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"an axis of size {x.shape[axis]} in parts of sizes {sizes}")
    return list(torch.split(x, sizes, axis))


@operator("ConcatFromSequence", as_stored=True)
@moves_strings
def concat_from_sequence(sequence: list[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    """The tensors after one another along ``axis``, or along a new one there."""
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


@operator("Optional", as_stored=True)
def optional(value: Any = None, *, type: Any = None) -> Any:  # noqa: A002
    """The value, or an empty one."""
    return value


@operator("OptionalHasElement", as_stored=True)
def optional_has_element(value: Any = None) -> Tensor:
    """Whether there is a value."""
    return torch.tensor(value is not None, device=getattr(value, "device", None))


@operator("OptionalGetElement", as_stored=True)
def optional_get_element(value: Any) -> Any:
    """The value; raises ``ValueError`` where there is none."""
    if value is None:
        raise ValueError("an empty optional where one with an element was expected")
    return value
