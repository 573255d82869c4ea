"""What a cell returns, with every tensor in it replaced, in the containers it came in."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor


class UnknownContainer(Exception):
    """An output whose type cannot be rebuilt with other tensors in it."""


def replaced(value: Any, change: Callable[[Tensor], Tensor], *, strict: bool = True) -> Any:
    """``value`` with ``change`` applied to its tensors that require gradients.

    Goes through tuples, named tuples, lists, mappings that can be written to and dataclasses; what
    is not the plain type is copied, so that it stays what it is. Raises :class:`UnknownContainer`,
    with the name of the type, on anything else that is not a plain value; unless ``strict`` that is
    handed on as it is, like :func:`gradaudit.probes.trace.tensors_in` passes over it.
    """

    def inner(item: Any) -> Any:
        return replaced(item, change, strict=strict)

    if isinstance(value, Tensor):
        return change(value) if value.requires_grad else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(inner, value))
    if type(value) in (tuple, list):
        return type(value)(map(inner, value))
    made: Any
    if isinstance(value, dict):
        made = copy.copy(value)
        for key, item in value.items():
            made[key] = inner(item)
        return made
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)
        for entry in dataclasses.fields(value):
            object.__setattr__(made, entry.name, inner(getattr(value, entry.name, None)))
        return made
    if not strict or value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UnknownContainer(type(value).__name__)
