"""Models that are no Modules: any object with a ``forward``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

_BUILTIN = ("builtins", "torch", "numpy", "collections", "functools", "typing", "pathlib")
_DEEPEST = 50  # objects within objects


class Forwarding(nn.Module):
    """Calls ``owner.forward``; its parameters are those of modules that ``owner`` refers to.

    Modules and ``nn.Parameter`` are found in attributes, in lists, tuples and dicts there, and in
    the attributes of objects of the user's own classes, each under its path: ``blocks.0.linear``.
    A copy of it refers to a copy of ``owner``. A name that Modules use themselves, as ``type``,
    gets an underscore. Plain tensors are not trained, nor is what lies over 50 objects deep.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self._owner = owner
        _register(self, owner, {id(owner)}, 0)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the owner's gives."""
        return self._owner.forward(*inputs, **named)


def has_forward(found: object) -> bool:
    """Whether it is an object, not a class, that can be called by its ``forward``."""
    return not isinstance(found, type) and callable(getattr(found, "forward", None))


def _register(home: nn.Module, owner: Any, seen: set[int], depth: int) -> None:
    for name, value in _items(owner):
        key = _free(home, name)
        if isinstance(value, nn.Parameter):
            home.register_parameter(key, value)
        elif isinstance(value, nn.Module):
            home.add_module(key, value)
        elif depth < _DEEPEST and id(value) not in seen and _is_holder(value):
            seen.add(id(value))
            inner = nn.Module()
            _register(inner, value, seen, depth + 1)
            if inner._parameters or inner._modules:
                home.add_module(key, inner)


def _free(home: nn.Module, name: str) -> str:
    key = name.replace(".", "_") or "_"
    while hasattr(home, key):
        key += "_"
    return key


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
