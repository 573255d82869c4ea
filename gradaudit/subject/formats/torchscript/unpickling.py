"""The pickles of a TorchScript archive: tensors, plain values, and objects of its own classes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.declared import REPEATED, STORAGE_TYPES, reach
from gradaudit.subject.formats.next_steps import HOSTILE_FILE, IF_YOURS
from gradaudit.subject.formats.pickles.bounded import BoundedUnpickler, table
from gradaudit.telling import quoted

_PICKLE_LIMIT = 1 << 26
_AXES = 64
OWN = "__torch__"
_STORAGES: Mapping[str, torch.dtype] = {
    f"{name}Storage": getattr(torch, dtype) for name, dtype in STORAGE_TYPES.items()
}


@dataclass(eq=False)
class Stored:
    """An object of one of the file's own classes, as it was saved."""

    kind: str  # "__torch__.torch.nn.modules.linear.Linear"
    state: dict[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"state": state}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    numel: int


class Unpickler(BoundedUnpickler):
    """Reads one pickle.

    ``read(key)`` gives a storage's bytes, ``size(key)`` how many there are. Raises ``RefusedFile``
    for anything beyond the list.
    """

    def __init__(
        self, stream: bytes, read: Callable[[str], bytes], size: Callable[[str], int]
    ) -> None:
        if len(stream) > _PICKLE_LIMIT:
            raise RefusedFile(f"it holds a pickle of {len(stream):,} bytes")
        super().__init__(io.BytesIO(stream))
        self._read, self._size = read, size
        self._flat: dict[str, Tensor] = {}
        self._same: dict[tuple[Any, ...], Tensor] = {}
        self._repeated = 0

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for a class of the file's own, or one of the few functions known here."""
        full = f"{module}.{name}"
        if module == OWN or module.startswith(f"{OWN}."):
            return _maker(full)
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known: dict[str, Any] = {
            "torch._utils._rebuild_tensor_v2": self._rebuild,
            "collections.OrderedDict": table,
            "torch.jit._pickle.restore_type_tag": _untagged,
            **{f"torch.jit._pickle.build_{kind}list": _untagged for kind in _LISTS},
        }
        if full not in known:
            raise RefusedFile(
                f"its pickle asks for {quoted(full)}, beyond what TorchScript writes",
                next_step=IF_YOURS,
            )
        return known[full]

    def persistent_load(self, pid: Any) -> Any:
        """A storage, held against the bytes that are there."""
        _, dtype, key, _, numel = pid
        if not isinstance(key, str) or type(numel) is not int:
            raise ValueError("a storage without a name or a size")
        storage = _Storage(key, dtype, numel)
        needed = storage.numel * dtype.itemsize
        if storage.numel < 0 or needed > self._size(storage.key):
            raise RefusedFile(
                f"it declares a storage of {needed:,} bytes",
                expected="as many bytes in the file",
                found=f"{self._size(storage.key):,}",
                next_step=HOSTILE_FILE,
            )
        return storage

    def _rebuild(
        self, storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, *_: Any
    ) -> Tensor:
        shape, stride = _whole(shape), _whole(stride)
        (offset,) = _whole((offset,))
        key = (storage.key, storage.dtype, offset, shape, stride)
        if key not in self._same:
            self._check(storage, offset, shape, stride)
            flat = self._storage(storage)
            tensor = torch.as_strided(flat, shape, stride, offset)
            self._same[key] = tensor.requires_grad_(bool(grad) and tensor.is_floating_point())
        return self._same[key]

    def _check(self, storage: _Storage, offset: Any, shape: Any, stride: Any) -> None:
        numel = math.prod(shape)
        beyond = numel > 0 and offset + reach(shape, stride) > storage.numel
        sound = min((*shape, *stride, offset), default=0) >= 0
        self._repeated += max(0, numel - storage.numel)
        if not sound or beyond or self._repeated > REPEATED:
            raise RefusedFile(
                f"it declares a tensor of shape {quoted(list(shape))}",
                found=f"a storage of {storage.numel:,} elements behind it",
                next_step=HOSTILE_FILE,
            )

    def _storage(self, storage: _Storage) -> Tensor:
        key = f"{storage.key} {storage.dtype}"
        if key not in self._flat:
            stream = bytearray(self._read(storage.key)[: storage.numel * storage.dtype.itemsize])
            made = torch.empty(0, dtype=storage.dtype)
            self._flat[key] = torch.frombuffer(stream, dtype=storage.dtype) if stream else made
        return self._flat[key]


def _whole(numbers: Any) -> tuple[int, ...]:
    if not isinstance(numbers, tuple | list) or len(numbers) > _AXES:
        raise ValueError("a tensor whose sizes are no short list")
    if not all(type(each) is int and abs(each) >> 63 == 0 for each in numbers):
        raise ValueError("a tensor of sizes that are no whole numbers, or beyond 64 bits")
    return tuple(numbers)


_LISTS = ("int", "tensor", "double", "bool", "complex")


def _untagged(value: Any, *_: Any) -> Any:
    return value


def _maker(full: str) -> Any:
    class _Made(Stored):
        def __new__(cls, *args: Any) -> Any:
            return _plain(full, args)

    return _Made


def _plain(full: str, args: tuple[Any, ...]) -> Stored:
    made = object.__new__(Stored)
    made.kind, made.state, made.args = full, {}, args
    return made
