"""Models that are no Modules: any object with a ``forward``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

_BUILTIN = ("builtins", "torch", "numpy", "collections", "functools", "typing", "pathlib")


class Forwarding(nn.Module):
    """Calls ``owner.forward``; its parameters are those of modules that ``owner`` refers to.

    Modules and ``nn.Parameter`` are found in attributes, in lists, tuples and dicts there, and in
    the attributes of objects of the user's own classes, each under its path: ``blocks.0.linear``.
    A copy of it refers to a copy of ``owner``. Plain tensors are not trained.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self._owner = owner
        _register(self, owner, {id(owner)})

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the owner's gives."""
        return self._owner.forward(*inputs, **named)


def has_forward(found: object) -> bool:
    """Whether it is an object, not a class, that can be called by its ``forward``."""
    return not isinstance(found, type) and callable(getattr(found, "forward", None))


def _register(home: nn.Module, owner: Any, seen: set[int]) -> None:
    for name, value in _items(owner):
        key = name.replace(".", "_") or "_"
        if id(value) in seen or hasattr(home, key):
            continue
        if isinstance(value, nn.Parameter):
            home.register_parameter(key, value)
        elif isinstance(value, nn.Module):
            home.add_module(key, value)
        elif _is_holder(value):
            seen.add(id(value))
            inner = nn.Module()
            _register(inner, value, seen)
            if inner._parameters or inner._modules:
                home.add_module(key, inner)


def _items(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, Mapping):
        yield from ((str(key), value) for key, value in owner.items())
    elif isinstance(owner, (list, tuple)):
        yield from ((str(i), value) for i, value in enumerate(owner))
    else:
        yield from list(getattr(owner, "__dict__", {}).items())


def _is_holder(value: Any) -> bool:
    if isinstance(value, (list, tuple, Mapping)):
        return True
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.partition(".")[0] not in _BUILTIN
