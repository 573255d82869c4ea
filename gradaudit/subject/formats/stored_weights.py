"""Weights that stay in their file: known by name, type and shape, read one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, as declared there; ``read`` makes it, on the CPU, each time anew."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    storage: Hashable  # the same for tensors that are views of the very same values (tied weights)

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * self.dtype.itemsize


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
        """A tensor of that type and shape on the meta device, which holds no values."""
        entry = self._entries[name]
        return torch.empty(entry.shape, dtype=entry.dtype, device="meta")
