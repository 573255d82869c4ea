"""The tensors of a PyTorch file, left in the file until they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gradaudit.subject.formats.declared import STORAGE_TYPES, DeclaredTensor
from gradaudit.subject.formats.reading import read_tensor
from gradaudit.subject.formats.stored_weights import StoredTensor
from gradaudit.subject.formats.torch_files.archive import Record


class TensorMaker:
    """Turns declared tensors into stored ones; their reading waits for the file's own checks."""

    def __init__(self, path: Path, storages: Mapping[str, Record]) -> None:
        self._path = path
        self._storages = storages
        self.unknown = False  # whether a tensor's type is none that can be read here

    def __call__(self, tensor: DeclaredTensor) -> StoredTensor | DeclaredTensor:
        """The same tensor, as found in the file."""
        dtype = _dtype(tensor.dtype)
        if dtype is None:
            self.unknown = True
            return tensor
        return StoredTensor(
            "",
            dtype,
            tensor.shape,
            partial(self._read, tensor, dtype),
            (self._path, tensor.storage, tensor.offset, tensor.numel, dtype),
        )

    def _read(self, tensor: DeclaredTensor, dtype: torch.dtype) -> Tensor:
        begin = self._storages[tensor.storage].begin if tensor.numel else 0
        begin += tensor.offset * dtype.itemsize
        return read_tensor(self._path, begin, dtype, tensor.shape, tensor.stride)


def _dtype(name: str) -> torch.dtype | None:
    found = getattr(torch, STORAGE_TYPES.get(name.removesuffix("Storage"), name), None)
    return found if isinstance(found, torch.dtype) else None
