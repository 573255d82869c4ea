"""Safetensors files whose header lies, is no JSON, or is made to be costly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.hostile.harness import Case, Place, sound

DATA = bytes(range(64))


def written(
    header: bytes, data: bytes = DATA, length: int | None = None
) -> Callable[[Place], Path]:
    """A file of this header and data; ``length`` is what it says the header's is."""

    def make(place: Place) -> Path:
        path = place.files / "model.safetensors"
        size = len(header) if length is None else length
        path.write_bytes(size.to_bytes(8, "little") + header + data)
        return path

    return make


def entries(*, data: bytes = DATA, **tensors: object) -> Callable[[Place], Path]:
    return written(json.dumps(tensors).encode(), data)


def entry(shape: object, begin: object, end: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _many(count: int) -> Callable[[Place], Path]:
    tensors = {f"layer{i}.weight": entry([1], 4 * i, 4 * i + 4) for i in range(count)}
    return entries(data=bytes(4 * count), **tensors)


def _deep(depth: int) -> bytes:
    return b'{"w": ' + b'{"a": ' * depth + b"1" + b"}" * depth + b"}"


ONE = entry([16], 0, 64)
_REFUSED: dict[str, Callable[[Place], Path]] = {
    "overlap": entries(a=entry([16], 0, 64), b=entry([8], 32, 64)),
    "the same place twice": entries(a=ONE, b=ONE),
    "a hole": entries(a=entry([4], 0, 16), b=entry([4], 48, 64)),
    "a hole in front": entries(a=entry([12], 16, 64)),
    "bytes behind": entries(data=DATA + b"evil" * 100, a=ONE),
    "past the end": entries(a=entry([1000], 0, 4000)),
    "shorter than its shape": entries(a=entry([1000], 0, 64)),
    "longer than its shape": entries(a=entry([2], 0, 64)),
    "negative offset": entries(a=entry([16], -64, 0)),
    "offsets the wrong way": entries(a=entry([16], 64, 0)),
    "offsets of 2**64": entries(a=entry([16], 2**64, 2**64 + 64)),
    "three offsets": entries(a={"dtype": "F32", "shape": [16], "data_offsets": [0, 64, 64]}),
    "fractional offsets": entries(a=entry([16], 0.0, 64.0)),
    "offsets as text": entries(a=entry([16], "0", "64")),
    "offsets true and false": entries(a=entry([0], False, False)),
    "a negative size": entries(a=entry([-16], 0, 64)),
    "two negative sizes": entries(a=entry([-4, -4], 0, 64)),
    "sizes that overflow": entries(a=entry([2**32, 2**32], 0, 0)),
    "sizes beyond any integer": entries(a=entry([10**40], 0, 64)),
    "sizes that are no list": entries(a=entry(16, 0, 64)),
    "a nested size": entries(a=entry([[16]], 0, 64)),
    "an unknown type": entries(a=entry([16], 0, 64, "F31")),
    "a type that is no text": entries(a=entry([16], 0, 64, ["F32"])),
    "a type of 10 kB": entries(a=entry([16], 0, 64, "F" * 10_000)),
    "no type": entries(a={"shape": [16], "data_offsets": [0, 64]}),
    "no tensor in the entry": entries(a=[1, 2, 3]),
    "an unknown key in the entry": entries(a={**ONE, "code": "import os"}),
    "metadata that are no text": entries(__metadata__={"a": {"b": 1}}, a=ONE),
    "a list": written(b'{}[{"a": 1}]'),
    "no JSON": written(b'{"a": F32 of evil}'),
    "JSON cut short": written(json.dumps({"a": ONE}).encode()[:-9]),
    "JSON with NaN": written(b'{"a": NaN}'),
    "no UTF-8": written(b'{"\xff\xfe": 1}'),
    "a byte order mark": written(b"\xef\xbb\xbf" + json.dumps({"a": ONE}).encode()),
    "duplicate keys": written(
        b'{"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}, '
        b'"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}'
    ),
    "duplicate keys within": written(
        b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [16], "data_offsets": [0, 64]}}'
    ),
    "10,000 levels": written(_deep(10_000)),
    "1,000,000 levels": written(_deep(1_000_000)),
    "numbers of 1,000,000 digits": written(b'{"a": ' + b"9" * 1_000_000 + b"}"),
    "an exponent": written(b'{"a": 1e999999999}'),
    "a length of 0": written(b"{}", length=0),
    "a length past the end": written(b'{"a": 1}', length=10_000),
    "a length of 99 MB": written(b'{"a": 1}', length=99_000_000),
    "a length of 2**63": written(b'{"a": 1}', length=2**63),
    "only a length": written(b"", b"", length=8),
    "half a length": lambda place: _bytes(place, b"\x08\0\0"),
    "no tensors": written(b"{}", b""),
    "only metadata": entries(data=b"", __metadata__={"format": "pt"}),
    "escaped surrogates": written(b'{"\\ud800": 1}'),
}
_ODD: dict[str, Callable[[Place], Path]] = {
    "spaces behind the header": written(json.dumps({"a": ONE}).encode() + b" " * 1_000),
    "50 MB of spaces": written(json.dumps({"a": ONE}).encode() + b" " * 50_000_000),
    "5,000 tensors": _many(5_000),
    "metadata of 5 MB": entries(__metadata__={"a": "x" * 5_000_000}, a=ONE),
    "a hundred axes": entries(a=entry([1] * 99 + [16], 0, 64)),
    "no elements": entries(a=ONE, b=entry([0, 10**9], 64, 64)),
    "an empty name": entries(**{"": ONE}),
}


def _bytes(place: Place, content: bytes) -> Path:
    (place.files / "model.safetensors").write_bytes(content)
    return place.files / "model.safetensors"


def cases() -> tuple[Case, ...]:
    refused = [Case(name, make, "") for name, make in _REFUSED.items()]
    return (*refused, *(sound(name, make) for name, make in _ODD.items()))
