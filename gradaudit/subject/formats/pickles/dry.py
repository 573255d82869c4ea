"""Reading a pickle without running it: which globals it asks for, and what it would allocate."""

from __future__ import annotations

import io
import pickle
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gradaudit.subject.formats.declared import DeclaredStorage, DeclaredTensor, declared
from gradaudit.subject.formats.pickles.bounded import BoundedUnpickler, check_keys, table
from gradaudit.subject.formats.pickles.holders import HOLDERS, MAPPINGS, SEQUENCES
from gradaudit.subject.formats.pickles.numpy_scalar import DTYPE, SCALAR, DType, scalar
from gradaudit.telling import quoted

_REBUILDS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_qtensor",
}
_OF_TYPE = "torch._tensor._rebuild_from_type_v2"  # calls what its first argument names
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter"}
_TABLES = {"collections.OrderedDict", "collections.Counter", *MAPPINGS}
# What is made for real out of plain parts: a pickle that asks for no more is known by heart.
_PLAIN = {
    *_REBUILDS, *HOLDERS, "torch._utils._rebuild_parameter", "collections.OrderedDict",
    "torch.Size", "torch.device", "builtins.set", "builtins.frozenset", "builtins.complex",
    "_codecs.encode",
} - {"torch._utils._rebuild_qtensor"}  # fmt: skip
# Asked for but never called: what storages and tensors are typed by.
_TYPE = re.compile(
    r"torch\.(\w+Storage|storage\.(Untyped|Typed)Storage|u?int\d+|float\d+\w*|bfloat16|half|double"
    r"|float|long|int|short|bool|complex\d+)"
)
# What makes tensors: their state would move them to where nothing was held against the file.
_TENSOR = re.compile(r"torch\.\w*Tensor|torch\.(nn\.parameter|_utils|_tensor)\.\w+")
_WEIGHTS = ("_all_weights", "all_weights")  # of a recurrent layer
_LOAD_BUILD: Callable[[Any], None] = BoundedUnpickler.dispatch[pickle.BUILD[0]]
_LATIN = (("latin1",), ("latin-1",))  # how protocol 2 writes bytes
INSTANCE = "(an object)"  # owner of an attribute that is asked of no global


@dataclass
class DryPickle:
    """What one or more pickles ask for."""

    names: set[str] = field(default_factory=set)  # every global, "module.name"
    called: set[str] = field(default_factory=set)  # those that would be called
    misuses: set[str] = field(default_factory=set)  # of names that are harmless used otherwise
    attributes: set[tuple[str, str]] = field(default_factory=set)  # getattr(global, name)
    storages: dict[str, DeclaredStorage] = field(default_factory=dict)
    tensors: list[DeclaredTensor] = field(default_factory=list)
    make: Make | None = None  # what becomes of a declared tensor
    classes_by_source: bool = False  # the old format's way to store modules
    protocol: int = 0  # the highest
    direct: bool = False  # whether tensors can be read from where they lie in the file

    @property
    def plain(self) -> bool:
        """Whether there are only dense tensors, plain containers, texts and numbers: the values
        that :func:`dry_read` gives are then all there is, and nothing needs to be imported.
        """
        named = all(name in _PLAIN or _TYPE.fullmatch(name) for name in self.names)
        return not self.classes_by_source and not self.misuses and named and self.called <= _PLAIN


Make = Callable[[DeclaredTensor], Any]


def dry_read(
    stream: bytes, *, pickles: int = 1, make: Make | None = None
) -> tuple[DryPickle, list[Any]]:
    """Go through ``pickles`` pickles that follow each other, with inert stand-ins for globals.

    Nothing named in the stream is imported or called. Returns what was asked for, and the
    unpickled values, in which plain containers and numbers are real, dense tensors are what
    ``make`` makes of their declaration (else that itself), and all else is inert. They may hold
    themselves, or one part many times.
    Raises whatever :mod:`pickle` raises on a malformed stream.
    """
    seen = DryPickle(make=make)
    source = io.BytesIO(stream)
    # torch's own format numbers each pickle's memo anew
    values = []
    for _ in range(pickles):
        unpickler = _DryUnpickler(source, seen)
        values.append(unpickler.load())
        seen.protocol = max(seen.protocol, unpickler.proto)
    return seen, values


class _DryUnpickler(BoundedUnpickler):
    def __init__(self, source: io.BytesIO, seen: DryPickle) -> None:
        super().__init__(source)
        self._seen = seen

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NAME_MAPPING:  # protocol 2 has Python 2's names
            module, name = NAME_MAPPING[module, name]
        full = f"{IMPORT_MAPPING.get(module, module)}.{name}"
        self._seen.names.add(full)
        return _stand_in(full, self._seen, self.spend)

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
        raise pickle.UnpicklingError("a persistent id that names no storage")

    def _build(self) -> None:
        made, state = getattr(self.stack[-2], "made_by", ""), self.stack[-1]
        odd = made.startswith("torch.nn.modules.") and not isinstance(state, dict)
        if odd or _TENSOR.fullmatch(made) or (".rnn." in made and not _names_only(state)):
            self._seen.misuses.add(f"{made} set by its state")
        for part in state if isinstance(state, tuple) else (state,):
            self.spend(part)
            names = part if isinstance(part, dict) else ()
            self._seen.misuses |= {
                f"to set {quoted(name)}"
                for name in names
                if isinstance(name, str) and name.startswith("__")
            }
        _LOAD_BUILD(self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **BoundedUnpickler.dispatch,
        pickle.BUILD[0]: _build,
    }


class Inert:
    """An object of a class that was not imported: takes any state and any entries, does nothing."""

    def __init__(self, made_by: str) -> None:
        self.made_by = made_by
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def append(self, _: Any) -> None:
        """Takes an item of a list."""

    def extend(self, _: Any) -> None:
        """Takes items of a list."""

    def add(self, _: Any) -> None:
        """Takes an item of a set."""

    def __call__(self, *_: Any) -> Inert:
        """Itself."""
        return self


def _names_only(state: Any) -> bool:
    """Whether a recurrent layer names its weights; else torch counts up to its layers' number."""
    weights = [state.get(name, []) for name in _WEIGHTS] if isinstance(state, dict) else []
    return all(
        isinstance(rows, list)
        and all(isinstance(row, list) and all(isinstance(n, str) for n in row) for row in rows)
        for rows in weights
    )


def _stand_in(full: str, seen: DryPickle, spend: Callable[[Any], None]) -> Any:
    class _Meta(type):
        asked_for = full

        def __call__(cls, *arguments: Any) -> Any:
            spend(arguments[0] if arguments else ())
            return _note_call(full, arguments, seen)

    class _StandIn(Inert, metaclass=_Meta):
        def __new__(cls, *arguments: Any) -> Any:
            if arguments:  # cls.__new__(cls, 10**12) allocates as a call would
                return _note_call(full, arguments, seen)
            return _plain(full, ())

    return _StandIn


def _note_call(full: str, arguments: tuple[Any, ...], seen: DryPickle) -> Any:
    """Write down a call, and give what a plain one gives."""
    seen.called.add(full)
    if full == "builtins.getattr" and len(arguments) >= 2:
        owner = getattr(arguments[0], "asked_for", INSTANCE)
        name = arguments[1] if isinstance(arguments[1], str) else INSTANCE
        seen.attributes.add((str(owner), name))
    if full == "_codecs.encode" and arguments[1:] not in _LATIN:
        # other codecs compress, or write each byte as two; bytes are always stored this way
        raise ValueError("text that is encoded by another codec than latin1")
    if full == _OF_TYPE and len(arguments) >= 3:
        return _note_call(getattr(arguments[0], "asked_for", INSTANCE), arguments[2], seen)
    if full in _REBUILDS and len(arguments) >= 4 and isinstance(arguments[0], DeclaredStorage):
        tensor = declared(full, arguments)
        seen.tensors.append(tensor)
        return tensor if seen.make is None else seen.make(tensor)
    if full in _PARAMETERS and arguments and not isinstance(arguments[0], Inert):
        return arguments[0]
    return _plain(full, arguments)


class _Table(OrderedDict[Any, Any]):
    """A dict with insertion order; attributes that the pickle would set on it are dropped."""

    def __setstate__(self, state: Any) -> None:
        return None


def _plain(full: str, arguments: tuple[Any, ...]) -> Any:
    """What calls of containers give; anything else is inert."""
    if full in _TABLES:
        return _Table(table(*arguments[:1]))
    if full in SEQUENCES:
        return list(arguments[0]) if arguments and isinstance(arguments[0], list) else []
    if full == DTYPE and arguments:
        # as text, nested lists may take for ever
        return DType(arguments[0] if isinstance(arguments[0], str) else "")
    if full in SCALAR:
        return scalar(arguments, Inert(full))
    if full == "_codecs.encode" and all(isinstance(text, str) for text in arguments):
        return str(arguments[0]).encode("latin-1")
    if arguments and isinstance(arguments[0], (list, tuple)):
        if full == "torch.Size":
            return tuple(arguments[0])
        if full in ("builtins.set", "builtins.frozenset"):
            check_keys(arguments[0])
            return frozenset(arguments[0])
    return Inert(full)
