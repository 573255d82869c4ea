"""Pickles written opcode by opcode, and PyTorch's two formats around them."""

from __future__ import annotations

import math
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

CODES = {code.name: code.code.encode("latin-1") for code in pickletools.opcodes}
MARK, STOP, REDUCE, BUILD = CODES["MARK"], CODES["STOP"], CODES["REDUCE"], CODES["BUILD"]
TUPLE, LIST, DICT, DUP, POP = (CODES[name] for name in ("TUPLE", "LIST", "DICT", "DUP", "POP"))
EMPTY_DICT, EMPTY_TUPLE, NONE = CODES["EMPTY_DICT"], CODES["EMPTY_TUPLE"], CODES["NONE"]
SETITEM, SETITEMS, BINPERSID = CODES["SETITEM"], CODES["SETITEMS"], CODES["BINPERSID"]
OBJ, NEWOBJ, NEWOBJ_EX = CODES["OBJ"], CODES["NEWOBJ"], CODES["NEWOBJ_EX"]
STACK_GLOBAL, MEMOIZE, APPEND = CODES["STACK_GLOBAL"], CODES["MEMOIZE"], CODES["APPEND"]
EMPTY_LIST, APPENDS = CODES["EMPTY_LIST"], CODES["APPENDS"]


def proto(number: int) -> bytes:
    """The opening of a pickle; protocols 0 and 1 have none."""
    return CODES["PROTO"] + bytes([number]) if number >= 2 else b""


def named(name: str) -> bytes:
    """``module attribute``, as protocols below 4 name a global."""
    return CODES["GLOBAL"] + name.replace(" ", "\n").encode() + b"\n"


def text(value: str) -> bytes:
    """A string of any length."""
    raw = value.encode("utf-8", "surrogatepass")
    return CODES["BINUNICODE"] + struct.pack("<I", len(raw)) + raw


def stacked(name: str) -> bytes:
    """A global whose two names lie on the stack, as protocol 4 does it."""
    module, attribute = name.split(" ")
    return text(module) + text(attribute) + STACK_GLOBAL


def value(item: Any) -> bytes:
    """Any plain value, without memo numbers that could collide; bytes are opcodes already."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, bool) or item is None:
        return {None: NONE, True: CODES["NEWTRUE"], False: CODES["NEWFALSE"]}[item]
    if isinstance(item, int):
        return CODES["INT"] + str(item).encode() + b"\n"
    if isinstance(item, float):
        return CODES["BINFLOAT"] + struct.pack(">d", item)
    if isinstance(item, str):
        return text(item)
    if isinstance(item, (tuple, list)):
        end = TUPLE if isinstance(item, tuple) else LIST
        return MARK + b"".join(map(value, item)) + end
    if isinstance(item, dict):
        return MARK + b"".join(value(k) + value(v) for k, v in item.items()) + DICT
    raise TypeError(type(item))


def raw(item: bytes) -> bytes:
    """A bytes object (protocol 3)."""
    return CODES["BINBYTES"] + struct.pack("<I", len(item)) + item


def called(name: str, *arguments: Any) -> bytes:
    """``name(*arguments)`` by REDUCE."""
    return named(name) + value(arguments) + REDUCE


def persistent(dtype: str, key: str, numel: int) -> bytes:
    """A storage, as torch refers to one."""
    return value(("storage", named(f"torch {dtype}"), key, "cpu", numel)) + BINPERSID


def tensor(
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    *,
    offset: int = 0,
    numel: int = 4,
    dtype: str = "FloatStorage",
    key: str = "0",
) -> bytes:
    """A tensor that looks at a storage of ``numel`` elements."""
    if stride is None:
        stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    arguments = (persistent(dtype, key, numel), offset, shape, stride, False)
    return called("torch._utils _rebuild_tensor_v2", *arguments, called("collections OrderedDict"))


def whole(body: bytes, protocol: int = 2) -> bytes:
    """A complete pickle around opcodes that leave one value."""
    return proto(protocol) + body + STOP


def torch_zip(
    path: Path, data: bytes, storages: dict[str, bytes] | None = None, **more: bytes
) -> Path:
    """An archive as ``torch.save`` lays it out, around a given ``data.pkl``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")
        for name, content in more.items():
            archive.writestr(f"archive/{name}", content)
    return path


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(path: Path, data: bytes, keys: tuple[str, ...] = (), storages: bytes = b"") -> Path:
    """A file as torch wrote it before 1.6: five pickles, then the storages."""
    info = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, info))
    path.write_bytes(head + data + pickle.dumps(list(keys), 2) + storages)
    return path


def rezipped(path: Path, change: dict[str, bytes], add: dict[str, bytes] | None = None) -> Path:
    """``path`` with members replaced (told by the end of their names) and others added."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    top = members[0][0].split("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            end = next((end for end in change if name.endswith(end)), None)
            archive.writestr(name, content if end is None else change[end])
        for name, content in (add or {}).items():
            archive.writestr(f"{top}/{name}", content)
    return path
