"""The weights of a ``.pt2`` archive: what is declared of them against the bytes stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.declared import REPEATED, reach
from gradaudit.subject.formats.next_steps import HOSTILE_FILE, IF_YOURS
from gradaudit.telling import quoted

# torch._export.serde.schema.ScalarType -> torch's type
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    34: torch.uint32,
    35: torch.uint64,
}
_STRIDED = 7


@dataclass(frozen=True)
class Payload:
    """A tensor as the archive declares it."""

    name: str
    record: str  # the file that holds its storage
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements

    @property
    def numel(self) -> int:
        """Elements it shows, stored or repeated."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements from the storage's first to the last it reaches."""
        return self.offset + reach(self.shape, self.stride) if self.numel else 0


def payloads(config: Mapping[str, Any], what: str) -> Iterator[Payload]:
    """The tensors that a configuration of weights or constants declares.

    Raises ``RefusedFile`` for one that is pickled, or no tensor; ``UnreadableFile`` for nonsense.
    """
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise UnreadableFile(f"{what} declares no tensors")
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise UnreadableFile(f"{what} declares {quoted(name)} as no tensor")
        meta = entry.get("tensor_meta")
        if entry.get("use_pickle") or meta is None:
            raise RefusedFile(
                f"{quoted(name)} is stored as a pickled object in the exported program",
                next_step=IF_YOURS,
            )
        try:
            yield _payload(name, str(entry["path_name"]), meta)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UnreadableFile(
                f"{what} declares {quoted(name)} as no tensor of known type and shape"
            ) from None


def check_payloads(found: list[Payload], sizes: Mapping[str, int]) -> None:
    """Raise ``RefusedFile`` where a tensor reaches beyond the bytes that are stored for it."""
    repeated, types = 0, dict[str, torch.dtype]()
    for each in found:
        held = sizes.get(each.record, -1)
        sound = min((*each.shape, *each.stride, each.offset), default=0) >= 0
        alike = types.setdefault(each.record, each.dtype) == each.dtype
        if not sound or not alike or each.extent * each.dtype.itemsize > held:
            raise RefusedFile(
                f"the tensor {quoted(each.name)} of shape {quoted(list(each.shape))} reaches "
                "beyond what is stored of it",
                expected="as many bytes in the file",
                found=f"{max(held, 0):,}",
                next_step=HOSTILE_FILE,
            )
        repeated += max(0, each.numel - held // each.dtype.itemsize)
        if repeated > REPEATED:
            raise RefusedFile(
                f"the tensor {quoted(each.name)} repeats stored values {each.numel:,} times",
                next_step=HOSTILE_FILE,
            )


def _payload(name: str, record: str, meta: Mapping[str, Any]) -> Payload:
    if meta["layout"] != _STRIDED:
        raise ValueError("not strided")
    shape, stride = _numbers(meta["sizes"]), _numbers(meta["strides"])
    if len(shape) != len(stride):
        raise ValueError("as many strides as sizes")
    offset = _number(meta["storage_offset"])
    return Payload(name, record, DTYPES[meta["dtype"]], shape, stride, offset)


def _numbers(values: list[Any]) -> tuple[int, ...]:
    return tuple(_number(value) for value in values)


def _number(value: Mapping[str, Any]) -> int:
    found = value["as_int"]
    if not isinstance(found, int) or abs(found) > 1 << 62:
        raise ValueError("no number")
    return found
