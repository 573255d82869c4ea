"""What a cell returns, with every tensor in it replaced, in the containers it came in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class UnknownContainer(Exception):
    """An output whose type cannot be rebuilt with other tensors in it."""


def replaced(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``change`` applied to its tensors that require gradients.

    Goes through tuples, named tuples, lists and dicts. Raises :class:`UnknownContainer`, with the
    name of the type, on anything else that is not a plain value.
    """
    if isinstance(value, Tensor):
        return change(value) if value.requires_grad else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(item, change) for item in value))
    if type(value) in (tuple, list):
        return type(value)(replaced(item, change) for item in value)
    if type(value) is dict:
        return {key: replaced(item, change) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UnknownContainer(type(value).__name__)
