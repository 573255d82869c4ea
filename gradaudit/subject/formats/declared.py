"""Storages and tensors as a pickle declares them, before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

REPEATED = 1 << 24  # elements that a file's tensors may show beyond those stored
# what torch called types in the names of storages -> their names since
STORAGE_TYPES = {
    "Bool": "bool", "Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32",
    "Long": "int64", "Half": "float16", "BFloat16": "bfloat16", "Float": "float32",
    "Double": "float64", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
_AXES = 100  # more than torch's tensors can have


@dataclass(frozen=True)
class DeclaredStorage:
    """A storage as the pickle declares it."""

    key: str
    dtype: str  # "FloatStorage", ...
    numel: int

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a storage in a pickle takes no further state")


@dataclass(frozen=True)
class DeclaredTensor:
    """A view of a storage as the pickle declares it."""

    storage: str  # its key
    dtype: str  # of the storage, "FloatStorage", or where that has none its own, "uint16"
    offset: int  # entries into the storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a tensor in a pickle takes no further state")

    @property
    def numel(self) -> int:
        """Elements the tensor would show, stored or repeated."""
        return math.prod(self.shape)


def reach(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Entries from the first to the last that a tensor shows, both counted."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def declared(full: str, arguments: tuple[Any, ...]) -> DeclaredTensor:
    """The tensor that a call of torch's ``_rebuild_tensor`` and its successors would give.

    Raises ``ValueError`` for one without sense.
    """
    storage, offset, shape, stride = arguments[:4]
    if max(len(shape), len(stride)) > _AXES:
        raise ValueError(f"a tensor of {len(shape)} sizes and {len(stride)} strides")
    dtype = storage.dtype
    if full.endswith("_v3") and len(arguments) >= 7:
        dtype = str(getattr(arguments[6], "asked_for", "")).removeprefix("torch.")
    sizes, steps = tuple(shape), tuple(stride)
    if not all(type(number) is int for number in (offset, *sizes, *steps)):
        raise ValueError("a tensor whose offset, sizes and strides are not whole numbers")
    if any(abs(number) >> 63 for number in (offset, *sizes, *steps)):
        raise ValueError("a tensor of sizes beyond 64 bits")
    if len(sizes) != len(steps):
        raise ValueError(f"a tensor of {len(sizes)} sizes and {len(steps)} strides")
    return DeclaredTensor(storage.key, dtype, offset, sizes, steps)
