"""Pickles that run code, or would fill the memory, in every place a pickle may stand."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.hostile.harness import Case, Place
from tests.hostile.opcodes import (
    APPENDS,
    BINPERSID,
    BUILD,
    CODES,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    LIST,
    MARK,
    NEWOBJ,
    NEWOBJ_EX,
    OBJ,
    POP,
    REDUCE,
    SETITEM,
    STACK_GLOBAL,
    TUPLE,
    called,
    legacy,
    named,
    proto,
    raw,
    rezipped,
    stacked,
    text,
    torch_zip,
    value,
    whole,
)

Body = Callable[[Place], bytes]
SYSTEM = "posix system"
NEEDS = r"would run code|not allowed|needs|damaged|torch\.save"


class _Reduces:
    """Pickled, it becomes a call of ``os.system``."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> object:
        import os

        return os.system, (self.command,)


def _nested(place: Place) -> bytes:
    inner = whole(called(SYSTEM, place.command))
    return whole(called("pickle loads", raw(inner)), 3)


def _hidden_deep(place: Place) -> bytes:
    return whole(value({"a": [({"b": called(SYSTEM, place.command)},)]}))


def _build_setstate(place: Place) -> bytes:
    """BUILD with a state that sets attributes, the callable among them."""
    made = named("torch.nn.modules.linear Linear") + EMPTY_TUPLE + NEWOBJ
    return whole(
        made + value({"training": False, "forward": called(SYSTEM, place.command)}) + BUILD
    )


def _getattr_chain(place: Place) -> bytes:
    imported = called("builtins __import__", "os")
    return whole(called("builtins getattr", imported, "system") + value((place.command,)) + REDUCE)


def _getattr_of_torch(place: Place) -> bytes:
    """By way of getattr, which a pickled activation function asks for as well."""
    owner = called("builtins getattr", named("torch._C _VariableFunctionsClass"), "from_file")
    return whole(owner + value((str(place.canary), True, 16)) + REDUCE)


def _module_call(place: Place) -> bytes:
    """``Linear(10**9, 10**9)``: a layer that is called, not made."""
    return whole(called("torch.nn.modules.linear Linear", 10**9, 10**9))


def _hook_dict(place: Place) -> bytes:
    """A layer whose forward hooks are a call away."""
    made = named("torch.nn.modules.activation ReLU") + EMPTY_TUPLE + NEWOBJ
    hook = called("functools partial", named(SYSTEM), place.command)
    state = {"training": True, "_forward_hooks": {1: hook}, "_modules": {}, "_parameters": {}}
    return whole(made + value(state) + BUILD)


def _runpy_file(place: Place) -> bytes:
    script = place.files / "script.py"
    script.write_text(place.code)
    return whole(called("runpy run_path", str(script)))


def _parts(place: Place) -> bytes:
    """Module and name of the global are put together inside of the pickle."""
    joined = called("builtins getattr", "", "join")
    return whole(
        joined + value((["pos", "ix"],)) + REDUCE + text("system") + STACK_GLOBAL
        + value((place.command,)) + REDUCE,
        4,
    )  # fmt: skip


ARMED: dict[str, Body] = {
    **{
        f"reduce, protocol {n}": (lambda place, n=n: pickle.dumps(_Reduces(place.command), n))
        for n in range(6)
    },
    "reduce, by stack": lambda p: whole(stacked(SYSTEM) + value((p.command,)) + REDUCE, 4),
    "newobj": lambda p: whole(
        called(SYSTEM, p.command) + POP + named("builtins object") + EMPTY_TUPLE + NEWOBJ
    ),
    "inst": lambda p: MARK + text(p.command) + CODES["INST"] + b"posix\nsystem\n" + b".",
    "obj": lambda p: MARK + named(SYSTEM) + text(p.command) + OBJ + b".",
    "build": _build_setstate,
    "eval": lambda p: whole(called("builtins eval", p.code)),
    "exec, python 2": lambda p: whole(called("__builtin__ eval", p.code)),
    "nested pickle": _nested,
    "deep inside": _hidden_deep,
    "getattr of an import": _getattr_chain,
    "name made of parts": _parts,
    "runs a file": _runpy_file,
    "popped again": lambda p: whole(called(SYSTEM, p.command) + POP + value({"w": 1})),
    "in a dictionary's key": lambda p: whole(
        EMPTY_DICT + called(SYSTEM, p.command) + value(1) + SETITEM
    ),
    "in a persistent id": lambda p: whole(
        value(("storage", called(SYSTEM, p.command), "0", "cpu", 1)) + BINPERSID
    ),
    "after an unknown frame": lambda p: (
        proto(4) + CODES["FRAME"] + struct.pack("<Q", 2) + b"N0" + called(SYSTEM, p.command) + b"."
    ),
    "with a long tail": lambda p: whole(called(SYSTEM, p.command)) + b"\0" * 4096,
}
# these do no more than name or build what is not allowed; nothing has happened yet when opened
UNARMED: dict[str, Body] = {
    "hooks": _hook_dict,
    "newobj_ex": lambda p: whole(
        named("subprocess Popen") + value((["touch", str(p.canary)],)) + EMPTY_DICT + NEWOBJ_EX, 4
    ),
    "getattr of torch": _getattr_of_torch,
    "a layer that is called": _module_call,
    "only a name": lambda p: whole(named(SYSTEM)),
    "a name with dots": lambda p: whole(stacked("torch nn.modules.module.os.system"), 4),
    "a name without sense": lambda p: whole(stacked("\x1b[31m<script>\n "), 4),
    "a name of 10 kB": lambda p: whole(stacked("evil " + "n" * 10_000), 4),
    "a thousand names": lambda p: whole(value([named(f"evil n{i}") for i in range(1_000)])),
    "a class by extension code": lambda p: whole(CODES["EXT1"] + b"\x01"),
}


def in_zip(body: Body, name: str = "model.pt") -> Callable[[Place], Path]:
    return lambda place: torch_zip(place.files / name, body(place))


def in_legacy(body: Body, name: str = "model.pt") -> Callable[[Place], Path]:
    return lambda place: legacy(place.files / name, body(place))


def bare(body: Body, name: str = "model.pkl") -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        (place.files / name).write_bytes(body(place))
        return place.files / name

    return make


def _in_checkpoint(place: Place) -> Path:
    """A Lightning-like checkpoint whose callbacks carry the payload."""
    path = place.files / "epoch=3.ckpt"
    content = {
        "epoch": 3,
        "state_dict": nn.Linear(3, 3).state_dict(),
        "callbacks": {"EarlyStopping": _Reduces(place.command)},
    }
    torch.save(content, path)
    return path


def _in_state_dict(place: Place, *, old: bool = False) -> Path:
    path = place.files / "model.pt"
    state = nn.Linear(3, 3).state_dict()
    state["extra"] = _Reduces(place.command)  # type: ignore[assignment]
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    return path


class Net(nn.Module):
    """A class of this test's own: pickled by name."""


def _own_class(place: Place) -> Path:
    torch.save(Net(), place.files / "model.pt")
    return place.files / "model.pt"


def _source_of_module(place: Place) -> Path:
    """The old format stores classes with their source: ("module", class, file, source)."""
    body = value(("module", named(SYSTEM), "evil.py", "import os")) + BINPERSID
    return legacy(place.files / "model.pt", whole(body + value((place.command,)) + REDUCE))


def _after_the_first(place: Place, position: int) -> Path:
    """One of the pickles that stand around the model's own in the old format."""
    state = io.BytesIO()
    torch.save({"w": torch.ones(2)}, state, _use_new_zipfile_serialization=False)
    content, path = state.getvalue(), place.files / "model.pt"
    evil = whole(called(SYSTEM, place.command))
    pickles, stream = [], io.BytesIO(content)
    for _ in range(3):
        start = stream.tell()
        pickle.load(stream)
        pickles.append(content[start : stream.tell()])
    pickles[position] = evil
    path.write_bytes(b"".join(pickles) + content[stream.tell() :])
    return path


def _keys_of_storages(place: Place) -> Path:
    """The list of storages after the model is a pickle, too."""
    path = legacy(place.files / "model.pt", whole(value({"a": 1})))
    content = path.read_bytes().removesuffix(pickle.dumps([], 2))
    path.write_bytes(content + whole(called(SYSTEM, place.command)))
    return path


def _two_pickles(place: Place) -> Path:
    """A harmless pickle first, and the payload behind it in the same ``data.pkl``."""
    body = whole(value({"w": 1})) + whole(called(SYSTEM, place.command))
    return torch_zip(place.files / "model.pt", body)


def _second_data_pkl(place: Place) -> Path:
    path = place.files / "model.pt"
    torch.save(nn.Linear(3, 3).state_dict(), path)
    return rezipped(path, {}, {"sub/data.pkl": whole(called(SYSTEM, place.command))})


def _first_data_pkl(place: Place) -> Path:
    """Two folders with a ``data.pkl``, the bad one first and in a folder of its own."""
    import zipfile

    path = place.files / "model.pt"
    torch.save(nn.Linear(3, 3).state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", whole(called(SYSTEM, place.command)))
        for name, content in members:
            archive.writestr(name, content)
    return path


def laughs(layers: int, width: int) -> bytes:
    """A list of lists of lists ...: ``width ** layers`` words in a few hundred bytes."""
    body = text("lol")
    for _ in range(layers):
        body = MARK + body + DUP * (width - 1) + LIST
    return whole(body)


def laughs_by_memo(layers: int, width: int) -> bytes:
    body = MARK * layers + text("lol")
    for layer in range(layers):
        put = CODES["BINPUT"] + bytes([layer])
        body += put + (CODES["BINGET"] + bytes([layer])) * width + LIST
    return whole(body)


def laughs_for_torch(layers: int, width: int) -> bytes:
    """The same out of the few opcodes that torch's own reader knows."""
    body = text("lol")
    for layer in range(layers):
        opened = EMPTY_LIST + MARK + body + CODES["BINPUT"] + bytes([layer])
        body = opened + (CODES["BINGET"] + bytes([layer])) * (width - 1) + APPENDS
    return body


def laughing_tuple(depth: int) -> bytes:
    """Tuples of twice the same: hashed, they take 2 ** depth steps."""
    return text("lol") + (DUP + CODES["TUPLE2"]) * depth


def _hexed(times: int) -> bytes:
    """Each turn doubles the length."""
    body = called("_codecs encode", "x", "latin1")
    for _ in range(times):
        body = called("_codecs encode", body, "hex_codec")
    return whole(body)


def _long(count: int) -> bytes:
    return whole(CODES["LONG4"] + struct.pack("<i", count) + b"\xff" * 64)


def _bytes8(size: int) -> bytes:
    return proto(4) + CODES["BINBYTES8"] + struct.pack("<Q", size) + b"."


def _big_integer_text(digits: int) -> bytes:
    return whole(CODES["LONG"] + b"9" * digits + b"L\n")


def _deep(opener: bytes, depth: int, closer: bytes = b"") -> bytes:
    return whole(opener * depth + closer * depth)


def _repeated_text(times: int) -> bytes:
    """One string of a megabyte, multiplied by its memo: stays one string."""
    one = text("x" * (1 << 20)) + CODES["BINPUT"] + b"\0"
    return whole(EMPTY_LIST + MARK + one + (CODES["BINGET"] + b"\0") * times + APPENDS)


def _memo_index(index: int) -> bytes:
    """The memo is an array in C: a high index alone makes it long."""
    return whole(value(1) + CODES["LONG_BINPUT"] + struct.pack("<I", index))


def _counter(count: int) -> bytes:
    return whole(called("collections Counter", named("builtins range"), count))


def _allocated(name: str, *arguments: object) -> bytes:
    return whole(called(name, *arguments))


BOMBS: dict[str, Callable[[], bytes]] = {
    "billion laughs by DUP": lambda: laughs(9, 10),
    "billion laughs by memo": lambda: laughs_by_memo(10, 10),
    "tuples that hash for ever": lambda: whole(
        EMPTY_DICT + laughing_tuple(60) + value(1) + SETITEM
    ),
    "LONG4 of 2 GB": lambda: _long(2**31 - 1),
    "LONG4 of negative length": lambda: _long(-5),
    "BINBYTES8 of 1 TB": lambda: _bytes8(1 << 40),
    "BINBYTES8 of 2**63": lambda: _bytes8(1 << 63),
    "BINUNICODE of 4 GB": lambda: proto(2) + CODES["BINUNICODE"] + b"\xff\xff\xff\xff" + b"x.",
    "BYTEARRAY8 of 8 GB": lambda: (
        proto(5) + CODES["BYTEARRAY8"] + struct.pack("<Q", 1 << 33) + b"."
    ),
    "FRAME of 1 TB": lambda: proto(4) + CODES["FRAME"] + struct.pack("<Q", 1 << 40) + b"N.",
    "an integer of 10,000 digits": lambda: _big_integer_text(10_000),
    "an integer of 10 million digits": lambda: _big_integer_text(10_000_000),
    "lists 100,000 deep": lambda: whole(EMPTY_LIST * 100_000 + CODES["APPEND"] * 99_999),
    "tuples 100,000 deep": lambda: whole(value(1) + CODES["TUPLE1"] * 100_000),
    "marks only": lambda: _deep(MARK, 100_000),
    "a memo entry at 2**31": lambda: _memo_index(1 << 31),
    "a memo entry at 2**27": lambda: _memo_index(1 << 27),
    "a text 100,000 times": lambda: _repeated_text(100_000),
    "bytes(10**12)": lambda: _allocated("builtins bytearray", 10**12),
    "a storage called": lambda: _allocated("torch FloatStorage", 10**12),
    "a size called": lambda: _allocated("torch Size", (10**12,)),
    "an encode that multiplies": lambda: _allocated("_codecs encode", "x" * 1000, "zlib"),
    "hex of hex of hex": lambda: _hexed(40),
    "a storage's key that laughs": lambda: whole(
        value(("storage", named("torch FloatStorage"), laughs(9, 10)[2:-1], "cpu", 1)) + BINPERSID
    ),
    "an attribute's name that laughs": lambda: whole(
        called("builtins getattr", named("torch relu"), laughs(9, 10)[2:-1])
    ),
    "a set of tuples that hash for ever": lambda: whole(
        called("builtins frozenset", [laughing_tuple(60)])
    ),
    "a dict of tuples that hash for ever": lambda: whole(
        called("collections OrderedDict", [(laughing_tuple(60), 1)])
    ),
    "a tuple that hashes too deep": lambda: whole(
        EMPTY_DICT + value(1) + CODES["TUPLE1"] * 200_000 + value(1) + SETITEM
    ),
    "an ordered dict of garbage": lambda: _allocated("collections OrderedDict", 5),
    "a counter of a range": lambda: _counter(10**10),
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "only STOP": lambda: b".",
    "no STOP": lambda: proto(2) + value({"a": 1}),
    "unknown opcode": lambda: proto(2) + b"\xfe\xfe.",
    "protocol 99": lambda: b"\x80\x63N.",
    "stack underflow": lambda: proto(2) + REDUCE + b".",
    "mark of nothing": lambda: proto(2) + TUPLE + b".",
    "memo of nothing": lambda: proto(2) + CODES["BINGET"] + b"\x07.",
    "BUILD of a number": lambda: whole(value(1) + value({"a": 1}) + BUILD),
    "BUILD of slots": lambda: whole(value(1) + value(({}, {"a": 1})) + BUILD),
    "REDUCE of a number": lambda: whole(value(3) + EMPTY_TUPLE + REDUCE),
    "SETITEM of a number": lambda: whole(value(3) + value(3) + value(3) + SETITEM),
    "a list as a key": lambda: whole(EMPTY_DICT + value([1]) + value(1) + SETITEM),
    "text that is no UTF-8": lambda: whole(CODES["BINUNICODE"] + b"\x02\0\0\0\xff\xfe"),
    "a lone surrogate": lambda: whole(value({"\ud800": 1})),
    "names that are no text": lambda: whole(value(42) + text("system") + STACK_GLOBAL, 4),
    "a name that is no UTF-8": lambda: whole(CODES["GLOBAL"] + b"\xff\xfe\nx\n"),
    "a persistent id of text": lambda: whole(CODES["PERSID"] + b"hello\n"),
    "a persistent id of numbers": lambda: whole(value((1, 2, 3, 4, 5)) + BINPERSID),
    "a storage without end": lambda: whole(
        value(("storage", named("torch FloatStorage"), "0", "cpu", 10**30)) + BINPERSID
    ),
    "an out-of-band buffer": lambda: whole(CODES["NEXT_BUFFER"], 5),
    "a module in a circle": lambda: whole(
        named("torch.nn.modules.container Sequential")
        + EMPTY_TUPLE
        + NEWOBJ
        + CODES["BINPUT"]
        + b"\0"
        + MARK
        + text("_modules")
        + MARK
        + text("0")
        + CODES["BINGET"]
        + b"\0"
        + CODES["DICT"]
        + CODES["DICT"]
        + BUILD
    ),
    "a module without state": lambda: whole(
        named("torch.nn.modules.linear Linear") + EMPTY_TUPLE + NEWOBJ
    ),
    "a layer's class instead of a layer": lambda: whole(named("torch.nn.modules.linear Linear")),
    "a dictionary of itself": lambda: whole(
        EMPTY_DICT + CODES["BINPUT"] + b"\0" + text("model") + CODES["BINGET"] + b"\0" + SETITEM
    ),
}
ALONE: tuple[Case, ...] = (
    Case("checkpoint's callbacks", _in_checkpoint, NEEDS, armed=True),
    Case("state dict's extra", _in_state_dict, NEEDS, armed=True),
    Case("old state dict's extra", lambda p: _in_state_dict(p, old=True), NEEDS, armed=True),
    Case("class of somebody", _own_class, r"tests\.hostile\.cases_pickles\.Net"),
    Case("class with its source", _source_of_module, NEEDS),
    Case("old: the magic is a call", lambda p: _after_the_first(p, 0), "", armed=True),
    Case("old: the version is a call", lambda p: _after_the_first(p, 1), NEEDS, armed=True),
    Case("old: the system is a call", lambda p: _after_the_first(p, 2), NEEDS, armed=True),
    Case("old: the keys are a call", _keys_of_storages, NEEDS, armed=True),
    Case("two pickles in one", _two_pickles, ""),
    Case("a second data.pkl", _second_data_pkl, "", frozenset({0, 1, 2, 3})),
    Case("a first data.pkl", _first_data_pkl, ""),
)


def cases() -> tuple[Case, ...]:
    found = list(ALONE)
    for name, body in ARMED.items():
        found.append(Case(f"zip: {name}", in_zip(body), NEEDS, armed=True))
        found.append(Case(f"old: {name}", in_legacy(body), NEEDS, armed=True))
    for name, body in list(ARMED.items())[::3]:
        found.append(Case(f"bare: {name}", bare(body), "pickle|model|binary", armed=True))
    for name, body in UNARMED.items():
        found.append(Case(f"zip: {name}", in_zip(body), NEEDS))
    for index, (name, make) in enumerate((BOMBS | BROKEN).items()):
        found.append(Case(f"zip: {name}", in_zip(lambda _, make=make: make()), ""))
        if index % 3 == 0:  # the old format's reader is the same
            found.append(Case(f"old: {name}", in_legacy(lambda _, make=make: make()), ""))
    return tuple(found)
