"""Reading a pickle without running it: which globals it asks for, and what it would allocate."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gradaudit.subject.formats.bounded_pickle import BoundedUnpickler

_REBUILDS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
INSTANCE = "(an object)"  # owner of an attribute that is asked of no global
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # names in protocol 2 pickles


@dataclass(frozen=True)
class DeclaredStorage:
    """A storage as the pickle declares it."""

    key: str
    dtype: str  # "FloatStorage", ...
    numel: int


@dataclass(frozen=True)
class DeclaredTensor:
    """A view of a storage as the pickle declares it."""

    storage: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Elements the tensor would show, stored or repeated."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass
class DryPickle:
    """What one or more pickles ask for."""

    names: set[str] = field(default_factory=set)  # every global, "module.name"
    called: set[str] = field(default_factory=set)  # those that would be called
    attributes: set[tuple[str, str]] = field(default_factory=set)  # getattr(global, name)
    storages: dict[str, DeclaredStorage] = field(default_factory=dict)
    tensors: list[DeclaredTensor] = field(default_factory=list)
    classes_by_source: bool = False  # the old format's way to store modules


def dry_read(stream: bytes, *, pickles: int = 1) -> tuple[DryPickle, list[Any]]:
    """Go through ``pickles`` pickles that follow each other, with inert stand-ins for globals.

    Nothing named in the stream is imported or called. Returns what was asked for, and the
    unpickled values, in which plain containers and numbers are real and all else is inert.
    Raises whatever :mod:`pickle` raises on a malformed stream.
    """
    seen = DryPickle()
    source = io.BytesIO(stream)
    # torch's own format numbers each pickle's memo anew
    values = [_DryUnpickler(source, seen).load() for _ in range(pickles)]
    return seen, values


class _DryUnpickler(BoundedUnpickler):
    def __init__(self, source: io.BytesIO, seen: DryPickle) -> None:
        super().__init__(source)
        self._seen = seen

    def find_class(self, module: str, name: str) -> Any:
        full = f"{_PYTHON_2.get(module, module)}.{name}"
        self._seen.names.add(full)
        return _stand_in(full, self._seen)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[4], int):
            kind = getattr(pid[1], "asked_for", "")
            if not isinstance(pid[2], (str, int)):  # as text, nested lists may take for ever
                raise ValueError(f"a storage's key is a {type(pid[2]).__name__}")
            key = str(pid[2])
            storage = DeclaredStorage(key, kind.rpartition(".")[2], pid[4])
            known = self._seen.storages.get(key)
            # the same key declared twice: the larger claim is the one to hold against the file
            if known is None or known.numel < storage.numel:
                self._seen.storages[key] = storage
            return storage
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            self._seen.classes_by_source = True
            return pid[1]
        return None


class _Inert:
    """An object of a class that was not imported: takes any state, does nothing."""

    def __setstate__(self, state: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def append(self, _: Any) -> None:
        return None

    def extend(self, _: Any) -> None:
        return None

    def add(self, _: Any) -> None:
        return None

    def __call__(self, *_: Any) -> _Inert:
        return self


def _stand_in(full: str, seen: DryPickle) -> Any:
    class _Meta(type):
        asked_for = full

        def __call__(cls, *arguments: Any) -> Any:
            _note_call(full, arguments, seen)
            return _Inert()

    class _StandIn(_Inert, metaclass=_Meta):
        def __new__(cls, *arguments: Any) -> Any:
            if arguments:  # cls.__new__(cls, 10**12) allocates as a call would
                _note_call(full, arguments, seen)
            return _Inert()

    return _StandIn


def _note_call(full: str, arguments: tuple[Any, ...], seen: DryPickle) -> None:
    seen.called.add(full)
    if full == "builtins.getattr" and len(arguments) >= 2:
        owner = getattr(arguments[0], "asked_for", INSTANCE)
        name = arguments[1] if isinstance(arguments[1], str) else INSTANCE
        seen.attributes.add((str(owner), name))
    if full == "_codecs.encode" and arguments[1:] not in (("latin1",), ("latin-1",)):
        # other codecs compress, or write each byte as two; bytes are always stored this way
        raise ValueError("text that is encoded by another codec than latin1")
    if full in _REBUILDS and len(arguments) >= 3 and isinstance(arguments[0], DeclaredStorage):
        shape = tuple(int(size) for size in arguments[2])
        seen.tensors.append(DeclaredTensor(arguments[0].key, shape))
