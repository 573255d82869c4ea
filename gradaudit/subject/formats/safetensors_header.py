"""The header of a safetensors file, held to the format's rules; no tensor is read.

Eight bytes give the header's length, little endian. The header is a JSON object: names to
``dtype``, ``shape`` and ``data_offsets`` (begin, end), counted from the header's end. Together the
tensors fill the rest of the file, without holes or overlaps. ``__metadata__`` maps strings to
strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradaudit.errors import UnreadableFile
from gradaudit.json_object import once
from gradaudit.subject.formats.next_steps import SAVE_AGAIN
from gradaudit.telling import quoted

HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_PARTS_LIMIT = 4_000_000  # numbers, lists and objects: some 400,000 tensors' worth
_MOST = 2**63 - 1
_METADATA = "__metadata__"
# bits per element by the format's name of the type
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class HeaderEntry:
    """A tensor as the header declares it; ``begin`` counts from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """All of a header, in the order of the bytes."""

    entries: tuple[HeaderEntry, ...]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header of the file at ``path``; raises ``UnreadableFile`` where it breaks a rule."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(HEADER_LIMIT, size - 8):
                raise _bad(
                    path, f"a header of {length:,} bytes", f"at most {HEADER_LIMIT:,}, in the file"
                )
            raw = stream.read(length)
    except OSError as error:
        raise UnreadableFile(
            f"{quoted(str(path))} cannot be read", found=error.strerror or str(error)
        ) from None
    content = _parsed(raw, path)
    metadata = _metadata(content.pop(_METADATA, {}), path)
    entries = [_entry(name, value, 8 + length, path) for name, value in content.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _fill(entries, 8 + length, size, path)
    return Header(tuple(entries), metadata)


def _parsed(raw: bytes, path: Path) -> dict[str, Any]:
    parts = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    if parts > _PARTS_LIMIT:
        raise _bad(path, f"a header of {parts:,} parts", f"at most {_PARTS_LIMIT:,}")
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_int=_short)
    except RecursionError:
        raise _bad(path, "a header nested too deeply", "names and numbers") from None
    except ValueError as error:  # JSON's and UTF-8's errors are such, too
        raise _bad(path, f"a header that is no JSON ({error})", "a JSON object") from None
    if not isinstance(content, dict):
        raise _bad(path, f"a header that is a {type(content).__name__}", "a JSON object")
    return content


def _short(digits: str) -> int:
    if len(digits) > 20:  # many digits take long to be read
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _metadata(value: Any, path: Path) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _bad(path, f"a {_METADATA} that is none", "texts by name")
    return value


def _entry(name: str, value: Any, start: int, path: Path) -> HeaderEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"an entry {quoted(name)} that is no tensor's", "dtype, shape, offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _bad(path, f"{quoted(name)} of the type {quoted(str(dtype))}", ", ".join(_BITS))
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or _count(shape) > _MOST:
        raise _bad(path, f"{quoted(name)} with a shape or offsets that are none", "whole numbers")
    begin, end = offsets
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        raise _bad(
            path,
            f"{quoted(name)} of {end - begin:,} bytes",
            f"{bits // 8:,} bytes for its type and shape",
        )
    return HeaderEntry(name, dtype, tuple(shape), start + begin, start + end)


def _counts(value: Any) -> bool:
    """Whether ``value`` is a short list of whole numbers that a 64-bit count can hold."""
    return (
        isinstance(value, list)
        and len(value) <= 64
        and all(type(item) is int and 0 <= item <= _MOST for item in value)
    )


def _count(shape: list[int]) -> int:
    """Entries; sides of zero do not make the others harmless, for strides multiply them."""
    return math.prod(max(side, 1) for side in shape)


def _fill(entries: list[HeaderEntry], start: int, size: int, path: Path) -> None:
    """Whether the tensors fill the file behind its header, each byte once."""
    reached = start
    for entry in entries:
        if entry.begin != reached:
            fault = "a hole before" if entry.begin > reached else "an overlap at"
            raise _bad(path, f"{fault} {quoted(entry.name)}", "tensors one behind the other")
        reached = entry.end
    if reached != size:
        raise _bad(path, f"{size - start:,} bytes of data", f"{reached - start:,} as declared")


def _bad(path: Path, found: str, expected: str) -> UnreadableFile:
    return UnreadableFile(
        f"{path} is a damaged or truncated safetensors file",
        expected=expected,
        found=found,
        next_step=SAVE_AGAIN,
    )
