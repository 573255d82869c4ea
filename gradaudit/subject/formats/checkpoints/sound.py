"""Whether a module that was read from a file hangs together and is what its classes say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.pickles.holders import Holder
from gradaudit.telling import quoted, told

_DEPTH = 100  # modules within modules
_ROUNDS = 1000  # of a power iteration, in each forward pass
_TABLES = ("_parameters", "_buffers", "_modules")
# what people set these to and torch takes
_NUMBERS: dict[Any, tuple[type, ...]] = {
    int: (int,), bool: (int,), float: (int, float),
    "int": (int,), "bool": (int,), "float": (int, float),
}  # fmt: skip


class UsesPlainData(RefusedFile):
    """A module whose part was read as a stand-in: it takes trust to have the real one."""


def sound(model: nn.Module, path: Path, *, trust: bool = False) -> nn.Module:
    """``model``, if a pickle has not left out or crossed out what a module needs.

    State comes from the file: a module may be without any, hold itself, or, unless it is trusted,
    carry an attribute where its class has a method. Raises ``UnreadableFile`` for those, and
    ``UsesPlainData`` for a part that was read as such only.
    """
    try:
        for module in _modules(model, 0):
            _check(module, path, trust=trust)
        states = [(p.shape, p.requires_grad) for p in model.parameters()]
        states += [(b.shape, b.requires_grad) for b in model.buffers()]
        _ = [module.training for module in model.modules()]
    except GradauditError:
        raise
    except Exception as error:  # what the file put in place of parts raises anything
        raise _damaged(path, told(error)) from None
    return model


def _modules(module: Any, depth: int) -> Iterator[nn.Module]:
    """Every module, by the tables that hold them: methods may be crossed out."""
    if not isinstance(module, nn.Module) or depth > _DEPTH:
        what = "modules within themselves" if depth > _DEPTH else type(module).__name__
        raise TypeError(f"{what} where a module should be")
    yield module
    for child in dict.values(_table(module, "_modules")):
        if child is not None:
            yield from _modules(child, depth + 1)


def _table(module: nn.Module, name: str) -> dict[str, Any]:
    found = vars(module).get(name)
    if not isinstance(found, dict):
        raise TypeError(f"{type(module).__name__} without {name}")
    return found


def _check(module: nn.Module, path: Path, *, trust: bool) -> None:
    for name, value in vars(module).items():
        if not trust and _is_own_method(type(module), name):
            raise _damaged(path, f"{quoted(name)} in place of {type(module).__name__}'s method")
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(part, Holder):
                raise UsesPlainData(
                    f"{path.name} holds a {type(module).__name__} that uses {part.name}, "
                    "which is read as plain data only",
                    next_step=IF_YOURS,
                )
        if not trust and isinstance(value, dict) and not all(map(_soon, dict.values(value))):
            raise _damaged(path, f"hooks without end as {quoted(name)}")
        if not trust and not _is_of_its_kind(type(module), name, value):
            raise _damaged(path, f"a {type(value).__name__} as {quoted(name)}")
    for name in _TABLES[:2]:
        for key, tensor in dict.items(_table(module, name)):
            if tensor is not None and not trust:
                check_tensor(tensor, key, path)


def _soon(hook: Any) -> bool:
    """Whether a hook such as that of spectral norm iterates no more than people ever set it to."""
    rounds = getattr(hook, "__dict__", {}).get("n_power_iterations", 1)
    return isinstance(rounds, int) and rounds <= _ROUNDS


def _is_of_its_kind(cls: type[nn.Module], name: str, value: Any) -> bool:
    """Whether a setting is a number where torch's class says that it is one."""
    for base in cls.__mro__:
        kind = vars(base).get("__annotations__", {}).get(name) if _is_torchs(base) else None
        if kind in _NUMBERS:
            return isinstance(value, _NUMBERS[kind])
    return True


def _is_own_method(cls: type[nn.Module], name: str) -> bool:
    """Whether torch itself gives the class a method of that name."""
    home = next((base for base in cls.__mro__ if name in vars(base)), None)
    return home is not None and _is_torchs(home) and callable(vars(home)[name])


def _is_torchs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("torch", "builtins")


def check_tensor(tensor: Any, name: object, path: Path) -> None:
    """Raise ``UnreadableFile`` if ``tensor`` is none, or has an attribute in a method's place."""
    if not isinstance(tensor, torch.Tensor):
        raise _damaged(path, f"a {type(tensor).__name__} as the tensor {quoted(name)}")
    own = [key for key in getattr(tensor, "__dict__", {}) if hasattr(torch.Tensor, key)]
    if own:
        raise _damaged(path, f"{quoted(own[0])} in place of the tensor {quoted(name)}'s own")


def plain(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """The entries alone: a dict from a pickle may carry attributes in its methods' place."""
    return dict(dict.items(mapping)) if isinstance(mapping, dict) else dict(mapping)


def _damaged(path: Path, found: str) -> UnreadableFile:
    return UnreadableFile(
        f"the module in {path.name} is damaged", found=found, next_step="save it again"
    )
