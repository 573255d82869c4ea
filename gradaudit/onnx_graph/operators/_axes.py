"""Axes, sizes and indices as nodes give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def as_ints(value: Tensor | Iterable[int]) -> list[int]:
    """A tensor of integers (of one element, too) or an attribute's list as Python's integers."""
    if isinstance(value, Tensor):
        found: list[int] = value.reshape(-1).tolist()
        return found
    return list(value)


def axis_in(axis: int, rank: int) -> int:
    """The axis counted from the front; raises ``ValueError`` where there is none such."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def axes_in(axes: Tensor | Iterable[int], rank: int) -> list[int]:
    """All of the axes counted from the front; raises ``ValueError`` where one is given twice."""
    found = [axis_in(axis, rank) for axis in as_ints(axes)]
    if len(set(found)) < len(found):
        raise ValueError(f"axes {found} name one axis twice")
    return found


def from_front(indices: Tensor, size: int) -> Tensor:
    """Indices into an axis of ``size``, the negative ones counted from its end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def one_of(mode: Any, *known: str) -> None:
    """Raise ``ValueError`` unless the attribute has one of the values it may have."""
    if mode not in known:
        raise ValueError(f"{mode!r} where one of {', '.join(known)} was expected")
