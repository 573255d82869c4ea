"""Files that two readers see differently, and parts of a few bytes that are copied over and over.

What is checked by one reader and opened by another has to be the same file to both: an archive
behind an old file's pickles, a second directory, and states that a layer of torch's acts upon.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.hostile.cases_pickles import in_zip
from tests.hostile.harness import Case, Place
from tests.hostile.opcodes import (
    APPENDS,
    BINPERSID,
    BUILD,
    CODES,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    NEWOBJ,
    POP,
    REDUCE,
    TUPLE,
    legacy,
    named,
    torch_zip,
    value,
    whole,
)

_GET, _PUT = CODES["BINGET"], CODES["BINPUT"]


def plain(item: object) -> bytes:
    """A value in the few opcodes that torch's own reader knows."""
    if isinstance(item, int) and not isinstance(item, bool):
        digits = pickle.encode_long(item)
        return CODES["LONG1"] + bytes([len(digits)]) + digits
    if isinstance(item, tuple):
        return MARK + b"".join(map(plain, item)) + TUPLE
    if isinstance(item, list):
        return EMPTY_LIST + MARK + b"".join(map(plain, item)) + APPENDS
    if isinstance(item, dict):
        pairs = b"".join(plain(key) + plain(each) for key, each in item.items())
        return EMPTY_DICT + MARK + pairs + CODES["SETITEMS"]
    return value(item)


def calling(name: str, *arguments: object) -> bytes:
    """A call in the same opcodes."""
    return named(name) + plain(arguments) + REDUCE


def layer(name: str, state: object) -> bytes:
    """A layer with its state."""
    return named(name) + EMPTY_TUPLE + NEWOBJ + plain(state) + BUILD


# 1.6 GB: a layer that is called, not made
ROOM = whole(calling("torch.nn.modules.linear Linear", 20_000, 20_000))


def saved(place: Place) -> Path:
    """A module in an archive that torch wrote."""
    torch.save(nn.Sequential(nn.Linear(4, 4)), place.files / "model.pt")
    return place.files / "model.pt"


def _archive_behind(place: Place) -> Path:
    """Pickles of before torch 1.6, and an archive behind them."""
    sound = saved(place).read_bytes()
    path = legacy(place.files / "model.pt", ROOM)
    path.write_bytes(path.read_bytes() + sound)
    return path


def _entries(members: list[tuple[str, bytes]], at: int, shift: int = 0) -> tuple[bytes, bytes]:
    """Members as they lie from ``at`` on, and the directory, whose places are ``shift`` less."""
    body = directory = b""
    for name, content in members:
        raw, size, crc = name.encode(), len(content), zlib.crc32(content)
        sizes = struct.pack("<3IH", crc, size, size, len(raw))
        place = struct.pack("<I", at + len(body) - shift)
        directory += b"PK\1\2" + struct.pack("<6H", 20, 20, 0, 0, 0, 0) + sizes + bytes(12)
        directory += place + raw
        body += b"PK\3\4" + struct.pack("<5H", 20, 0, 0, 0, 0) + sizes + bytes(2) + raw + content
    return body, directory


def _members(data: bytes) -> list[tuple[str, bytes]]:
    return [("m/data.pkl", data), ("m/version", b"3\n"), ("m/data/0", bytes(16))]


def _two_directories(place: Place) -> Path:
    """The end record names one directory, and another lies right before it."""
    sound = whole(layer("torch.nn.modules.activation ReLU", {"training": True}))
    body, first = _entries(_members(ROOM + bytes(4096)), 0)
    at = len(body) + len(first)
    behind, _ = _entries(_members(sound), at)
    _, second = _entries(_members(sound), at, shift=len(first) + len(behind))
    assert len(first) == len(second)
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 3, 3, len(second), len(body), 0)
    path = place.files / "model.pt"
    path.write_bytes(body + first + behind + second + end)
    return path


def _moved_parameter(place: Place) -> Path:
    """A parameter that its state makes larger than what it was held against."""
    storage = plain(("storage", named("torch FloatStorage"), "0", "cpu", 4)) + BINPERSID
    hooks = calling("collections OrderedDict")
    tensor = calling("torch._utils _rebuild_tensor_v2", storage, 0, (4,), (1,), False, hooks)
    made = calling("torch._utils _rebuild_parameter_with_state", tensor, False, hooks, {})
    state = plain((storage, 0, (1 << 20, 1 << 20), (0, 0))) + BUILD
    return torch_zip(place.files / "model.pt", whole(plain({"w": made + state})), {"0": bytes(16)})


def _endless_norm(place: Place) -> Path:
    """Spectral norm whose hook iterates for ever in the first forward pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.utils.spectral_norm(nn.Linear(4, 4), n_power_iterations=10**12)
    torch.save(nn.Sequential(normed), place.files / "model.pt")
    return place.files / "model.pt"


def _many_layers(state: Callable[[dict[str, object]], object]) -> bytes:
    """An LSTM of before torch 1.4, which counts its weights' names up to the number of layers."""
    held = {
        "training": True, "_parameters": {}, "_buffers": {}, "_modules": {}, "bias": True,
        "bidirectional": False, "num_layers": 10**12, "_all_weights": [[1]], "all_weights": [[1]],
    }  # fmt: skip
    return whole(layer("torch.nn.modules.rnn LSTM", state(held)))


def laughs() -> bytes:
    """A list of lists of lists ...: ten to the thirtieth words."""
    body = plain("lol")
    for number in range(30):
        again = (_GET + bytes([number])) * 9
        body = EMPTY_LIST + MARK + body + _PUT + bytes([number]) + again + APPENDS
    return body


def kept(item: bytes) -> bytes:
    """``item`` in the memo under 9, and off the stack."""
    return item + _PUT + b"\x09" + POP


def again(times: int, more: bytes = b"") -> bytes:
    """A list of what is in the memo, ``times``."""
    return EMPTY_LIST + MARK + (_GET + b"\x09" + more) * times + APPENDS


def _wide_tuple() -> bytes:
    """Seven million entries, counted as often as they are met."""
    body = plain(tuple(range(60)))
    for number in range(3):
        body += _PUT + bytes([number]) + POP + MARK + (_GET + bytes([number])) * 50 + TUPLE
    return body


def _copied(name: str, item: bytes, times: int, more: tuple[object, ...] = ()) -> bytes:
    call = named(name) + MARK + _GET + b"\x09" + b"".join(map(plain, more)) + TUPLE + REDUCE
    return whole(kept(item) + EMPTY_LIST + MARK + call * times + APPENDS)


def _same_state(times: int) -> bytes:
    """One state with many names, given to every layer."""
    state = plain({f"a{number}": None for number in range(20_000)})
    one = named("torch.nn.modules.activation ReLU") + EMPTY_TUPLE + NEWOBJ + _GET + b"\x09" + BUILD
    return whole(kept(state) + EMPTY_LIST + MARK + one * times + APPENDS)


def _long_number(name: str) -> bytes:
    """Sizes of a million digits each: multiplied, they take for ever."""
    number = CODES["LONG4"] + struct.pack("<i", 500_000) + b"\x11" * 500_000
    storage = plain(("storage", named("torch FloatStorage"), "0", "cpu", 4)) + BINPERSID
    sizes = MARK + (_GET + b"\x09") * 64 + TUPLE
    return whole(kept(number) + calling(name, storage, 0, sizes, (1,) * 64, False, None))


def _colliding() -> bytes:
    """Whole numbers of one and the same hash as keys."""
    pairs = (plain(number * (2**61 - 1)) + plain(None) for number in range(1, 60_000))
    return whole(EMPTY_DICT + MARK + b"".join(pairs) + CODES["SETITEMS"])


BODIES: dict[str, Callable[[], bytes]] = {
    "layers without number": lambda: _many_layers(lambda state: state),
    "layers without number, in pairs": lambda: _many_layers(lambda state: [*state.items()]),
    "a type's name that laughs": lambda: whole(calling("numpy dtype", laughs())),
    "a set of wide tuples": lambda: whole(
        kept(_wide_tuple()) + calling("builtins set", again(20_000))
    ),
    "keys of wide tuples": lambda: whole(
        kept(_wide_tuple())
        + calling("collections OrderedDict", again(20_000, plain(None) + CODES["TUPLE2"]))
    ),
    "a text copied over and over": lambda: _copied(
        "_codecs encode", plain("x" * (1 << 20)), 50_000, ("latin1",)
    ),
    "a dict copied over and over": lambda: _copied(
        "collections OrderedDict", plain({f"a{n}": None for n in range(20_000)}), 50_000
    ),
    "a set copied over and over": lambda: _copied(
        "builtins set", plain(list(range(20_000))), 50_000
    ),
    "a state set over and over": lambda: _same_state(50_000),
    "sizes of a million digits": lambda: _long_number("torch._utils _rebuild_tensor_v2"),
    "a key of a million digits": lambda: whole(
        kept(CODES["LONG4"] + struct.pack("<i", 1 << 20) + b"\x11" * (1 << 20))
        + EMPTY_DICT + MARK + (_GET + b"\x09" + plain(None)) * 50_000 + CODES["SETITEMS"]
    ),
    "keys of one hash": _colliding,
}  # fmt: skip


def cases() -> tuple[Case, ...]:
    return (
        Case("an archive behind an old file", _archive_behind, "needs .*Linear"),
        Case("a directory before the directory", _two_directories, "contradicts itself"),
        Case("a parameter moved by its state", _moved_parameter, "set by its state"),
        Case("spectral norm without end", _endless_norm, "hooks without end"),
        *(Case(name, in_zip(lambda _, body=body: body()), "") for name, body in BODIES.items()),
    )
