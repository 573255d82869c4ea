"""Weights that stay in their file: known by name, type and shape, read one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from gradaudit.records.contents import TensorEntry


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, as declared there; ``read`` makes it, on the CPU, each time anew."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    storage: Hashable  # the same for tensors that are views of the very same values (tied weights)
    value: Tensor | None = None  # where it has been read already, as what it is

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * self.dtype.itemsize

    @property
    def entry(self) -> TensorEntry:
        """What ``inspect`` lists of it."""
        return TensorEntry(
            self.name, str(self.dtype).removeprefix("torch."), self.shape, self.nbytes
        )

    def __setstate__(self, state: object) -> None:
        """Raises: a pickle must not change what its file has been held against."""
        raise TypeError("a tensor in a file takes no state")


def is_tensor(value: object) -> TypeGuard[Tensor | StoredTensor]:
    """Whether a leaf of what a file holds is a tensor, already read or still in the file."""
    return isinstance(value, (Tensor, StoredTensor))


class StoredWeights(Mapping[str, Tensor]):
    """Names to tensors; a tensor is read when it is asked for, and not kept."""

    def __init__(self, entries: Iterable[StoredTensor]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Tensor:
        return self._entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str) -> StoredTensor:
        """What the file declares of a tensor; nothing is read. Raises ``KeyError``."""
        return self._entries[name]

    def declared(self, name: str) -> Tensor:
        """A tensor of that type and shape on the meta device, which holds no values; one that has
        been read already as it is.
        """
        entry = self._entries[name]
        if entry.value is not None:
            return entry.value
        return torch.empty(entry.shape, dtype=entry.dtype, device="meta")

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> StoredWeights:
        """The weights of a part of a file's tree; tensors that are already read stay as they are.

        Several files are joined by ``StoredWeights([*one.entries(), *other.entries()])``.
        """
        if isinstance(tensors, StoredWeights):
            return tensors
        return cls(_entry(name, value) for name, value in tensors.items())

    def entries(self) -> tuple[StoredTensor, ...]:
        """What the file declares of every tensor, in its order."""
        return tuple(self._entries.values())


def _entry(name: str, value: Tensor | StoredTensor) -> StoredTensor:
    if isinstance(value, StoredTensor):
        return replace(value, name=name)
    placed = value.layout is torch.strided and not value.is_meta
    place = (value.data_ptr(), value.numel(), value.dtype) if placed else id(value)
    return StoredTensor(
        name, value.dtype, tuple(value.shape), lambda: value, ("memory", place), value
    )
