"""What is given beside the model: data, recipes, configurations, each as hostile as a model."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.hostile.cases_pickles import laughs, laughs_for_torch
from tests.hostile.harness import Case, Place, sound
from tests.hostile.opcodes import (
    EMPTY_DICT,
    SETITEM,
    called,
    legacy,
    tensor,
    torch_zip,
    value,
    whole,
)

Arguments = list["str | Path"]


def model(place: Place) -> Path:
    """A sound net of four inputs."""
    path = place.files / "model.pt"
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), path)
    return path


def data(name: str, content: bytes | Callable[[Place], bytes]) -> Callable[[Place], Arguments]:
    """The sound net with this file as its sample."""

    def make(place: Place) -> Arguments:
        path = place.files / name
        path.write_bytes(content if isinstance(content, bytes) else content(place))
        return [model(place), "--data", path]

    return make


def made(write: Callable[[Place], Path]) -> Callable[[Place], Arguments]:
    return lambda place: [model(place), "--data", write(place)]


def _npy(header: str, body: bytes = bytes(64), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H", len(text)) if version[0] == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + version + size + text + body


def _described(descr: str = "'<f4'", shape: str = "(4, 4)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def _object_array(place: Place) -> bytes:
    return _npy(_described("'|O'", "(1,)"), whole(called("posix system", place.command)))


def _npz(members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _saved(**arrays: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npz_bomb(place: Place) -> Path:
    """Eight gigabytes of zeros in eight megabytes."""
    path = place.files / "data.npz"
    head = _npy(_described("'|u1'", f"({1 << 33},)"), b"")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        block = bytes(1 << 24)
        for _ in range(16):
            member.write(block)
    content = bytearray(path.read_bytes())
    path.write_bytes(content)
    return path


def _csv(rows: str) -> bytes:
    return rows.encode()


def _pipe(place: Place) -> Path:
    os.mkfifo(place.files / "data.csv")
    return place.files / "data.csv"


def _payload(place: Place) -> bytes:
    return whole(called("posix system", place.command))


def recipe(name: str, content: bytes) -> Callable[[Place], Arguments]:
    def make(place: Place) -> Arguments:
        (place.files / name).write_bytes(content)
        return [model(place), "--recipe", place.files / name]

    return make


def configuration(text: str) -> Callable[[Place], Arguments]:
    """A ``pyproject.toml`` in the working folder."""

    def make(place: Place) -> Arguments:
        (place.work / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
        return [model(place)]

    return make


def _trusting(place: Place) -> Arguments:
    (place.work / "pyproject.toml").write_text("[tool.gradaudit]\ntrust = true\n")
    return [torch_zip(place.files / "evil.pt", _payload(place))]


def _module_beside(place: Place) -> Arguments:
    """A module of torch's name, and others, where the file and the command are."""
    for folder in (place.files, place.work):
        for name in ("torch", "numpy", "safetensors", "sitecustomize", "onnx", "json", "ctypes"):
            (folder / f"{name}.py").write_text(place.code)
    path = place.files / "model.pt"
    torch.save({"a.weight": torch.ones(4, 4)}, path)
    return [path]


X = np.zeros((8, 4), np.float32)
_REFUSED: dict[str, tuple[Callable[[Place], Arguments], str]] = {
    "npy of objects": (data("x.npy", _object_array), "objects"),
    "npz of objects": (data("x.npz", lambda p: _npz({"x.npy": _object_array(p)})), "objects"),
    "npy of 10**15 numbers": (data("x.npy", _npy(_described(shape="(10**15,)"))), ""),
    "npy of a petabyte": (data("x.npy", _npy(_described(shape=f"({10**15},)"))), ""),
    "npy of 8 GB": (data("x.npy", _npy(_described(shape=f"({1 << 31},)"))), ""),
    "npy of a negative size": (data("x.npy", _npy(_described(shape="(-4, 4)"))), ""),
    "npy of two negative sizes": (data("x.npy", _npy(_described(shape="(-4, -4)"))), ""),
    "npy of sizes that overflow": (data("x.npy", _npy(_described(shape=f"({2**62}, 8)"))), ""),
    "npy of a call": (data("x.npy", lambda p: _npy(_described(shape=p.code))), ""),
    "npy of a header 5,000 levels deep": (data("x.npy", _npy("(" * 5_000)), ""),
    "npy of a header of 60 kB": (data("x.npy", _npy(_described() + " " * 60_000)), ""),
    "npy of a header of 4 GB": (data("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), ""),
    "npy of no header": (data("x.npy", _npy("hello")), ""),
    "npy of version 9": (data("x.npy", _npy(_described(), version=b"\x09\x00")), ""),
    "npy of records": (data("x.npy", _npy(_described("[('a', '<f4'), ('b', '|O')]"))), ""),
    "npy of text": (data("x.npy", _npy(_described("'<U4'"))), ""),
    "npy of dates": (data("x.npy", _npy(_described("'<M8[s]'", "(8,)"))), ""),
    "npy of void": (data("x.npy", _npy(_described("'|V4'"))), ""),
    "npy of 10**9-byte items": (data("x.npy", _npy(_described(f"'|V{10**9}'", "(10,)"))), ""),
    "npy cut short": (data("x.npy", _npy(_described(shape="(400, 4)"))), ""),
    "npy of only a magic": (data("x.npy", b"\x93NUMPY"), ""),
    "npz bomb": (made(_npz_bomb), ""),
    "npz cut": (data("x.npz", _saved(x=X)[:-30]), "damaged"),
    "npz of nothing": (data("x.npz", _npz({})), "without arrays"),
    "npz of text": (data("x.npz", _npz({"x.npy": b"hello"})), ""),
    "npz with a wrong checksum": (
        data("x.npz", lambda p: _saved(x=X).replace(bytes(32), b"\1" * 32, 1)),
        "",
    ),
    "csv of one column": (data("x.csv", _csv("a\n1\n")), "no table"),
    "csv of formulas": (data("x.csv", _csv("a,b\n=cmd|' /C calc'!A0,1\n")), ""),
    "csv with escapes": (data("x.csv", _csv("a\x1b[31m,b\u202e\n\x1b[2J,1\n")), ""),
    "csv of ragged rows": (data("x.csv", _csv("a,b\n1,2,3\n")), "cells"),
    "csv of huge numbers": (
        data("x.csv", _csv("a,b,c,d,e\n" + ",".join(["1" + "0" * 5_000] * 5))),
        "",
    ),
    "csv of an endless cell": (data("x.csv", _csv('a,b\n"' + "x" * 1_000_000)), ""),
    "csv of 200,000 columns": (data("x.csv", _csv(",".join(["a"] * 200_000) + "\nx\n")), ""),
    "csv of a name of 1 MB": (data("x.csv", _csv("n" * 1_000_000 + ",b\nx,y\n")), ""),
    "csv of 50 MB without an end": (data("x.csv", b"1" * 50_000_000), ""),
    "csv of infinities": (data("x.csv", _csv("a,b,c,d,e\ninf,nan,1,2,3\n")), ""),
    "csv that is no text": (data("x.csv", b"a,b\n\xff\xfe\xfd,1\n"), ""),
    "csv of bytes": (data("x.csv", bytes(range(256))), ""),
    "a pipe": (made(_pipe), "special file"),
    "a folder": (made(lambda place: place.files), "a directory"),
    "a device": (made(lambda place: Path("/dev/zero")), "special file"),
    "a picture": (data("x.pt", b"\x89PNG\r\n\x1a\n" + bytes(100)), ""),
    "pt that runs code": (
        data("x.pt", lambda p: torch_zip(p.files / "y.pt", _payload(p)).read_bytes()),
        "",
    ),
    "old pt that runs code": (
        data("x.pt", lambda p: legacy(p.files / "y.pt", _payload(p)).read_bytes()),
        "",
    ),
    "pickle that runs code": (data("x.pkl", _payload), ""),
    "pt that laughs": (
        data("x.pt", lambda p: torch_zip(p.files / "y.pt", laughs(9, 10)).read_bytes()),
        "",
    ),
    "pt of dicts in circles": (
        data(
            "x.pt",
            lambda p: torch_zip(
                p.files / "y.pt", whole(b"}q\0" + value("x") + b"h\0s")
            ).read_bytes(),
        ),
        "",
    ),
    "pt of a dict that laughs": (
        data(
            "x.pt",
            lambda p: torch_zip(
                p.files / "y.pt", whole(EMPTY_DICT + value("x") + laughs_for_torch(9, 10) + SETITEM)
            ).read_bytes(),
        ),
        "containers within containers",
    ),
    "pt expanded": (
        data(
            "x.pt",
            lambda p: torch_zip(
                p.files / "y.pt", whole(value({"x": tensor((10**9, 4), (0, 0))})), {"0": bytes(16)}
            ).read_bytes(),
        ),
        "",
    ),
    "pt of text": (
        data("x.pt", lambda p: torch_zip(p.files / "y.pt", whole(value("hello"))).read_bytes()),
        "",
    ),
    "safetensors that lie": (data("x.safetensors", b"\x10\0\0\0\0\0\0\0{" + bytes(15)), ""),
    "recipe of nonsense": (recipe("r.toml", b"\x00\xff"), ""),
    "recipe 100,000 levels deep": (recipe("r.json", b'{"lr": ' + b"[" * 100_000), ""),
    "recipe of a deep TOML": (recipe("r.toml", b"lr = " + b"[" * 100_000), ""),
    "recipe of a huge number": (recipe("r.json", b'{"lr": ' + b"9" * 100_000 + b"}"), ""),
    "recipe of a huge exponent": (recipe("r.json", b'{"lr": 1e99999}'), ""),
    "recipe of NaN": (recipe("r.json", b'{"lr": NaN}'), ""),
    "recipe of a list": (recipe("r.json", b'{"lr": [1]}'), ""),
    "recipe with escapes": (recipe("r.json", json.dumps({"\x1b[31m\u202e\n": 1}).encode()), ""),
    "recipe of a 10 kB key": (recipe("r.json", json.dumps({"n" * 10_000: 1}).encode()), ""),
    "recipe of 10 kB text": (
        recipe("r.json", json.dumps({"optimizer": "n" * 10_000}).encode()),
        "",
    ),
    "recipe of dotted keys": (recipe("r.toml", b"a" + b".a" * 20_000 + b" = 1"), ""),
    "configuration that trusts": (_trusting, "trust cannot be set"),
    "configuration of a 10 kB key": (
        configuration("[tool.gradaudit]\n" + "n" * 10_000 + " = 1\n"),
        "",
    ),
    "configuration with escapes": (
        configuration('[tool.gradaudit]\n"\\u001b[31m\\u202e\\n" = 1\n'),
        "",
    ),
    "configuration of a 10 kB value": (
        configuration('[tool.gradaudit]\nseed = "' + "n" * 10_000 + '"\n'),
        "",
    ),
    "configuration 100,000 levels deep": (
        configuration("[tool.gradaudit]\nselect = " + "[" * 100_000),
        "",
    ),
    "configuration that is no UTF-8": (configuration("[tool.gradaudit]\n# \udcff\n"), ""),
    "configuration of a huge number": (
        configuration("[tool.gradaudit]\nseed = " + "9" * 5_000),
        "",
    ),
}
_ODD: dict[str, Callable[[Place], Arguments]] = {
    "modules of known names beside the file": _module_beside,
    "npz with names that are paths": data("x.npz", _npz({"../../x.npy": _npy(_described())})),
    "npz with a name of 10 kB": data("x.npz", _npz({"n" * 10_000 + ".npy": _npy(_described())})),
    "npz with escapes": data("x.npz", _npz({"\x1b[31m<b>\n.npy": _npy(_described())})),
    "npz of 2,000 arrays": data(
        "x.npz", _npz({f"a{i}.npy": _npy(_described()) for i in range(2_000)})
    ),
    "npy of no rows": data("x.npy", _npy(_described(shape="(0, 4)"), b"")),
    "npy of 30 axes": data(
        "x.npy", _npy(_described(shape="(1,) * 30".replace("(1,) * 30", "(" + "1," * 30 + ")")))
    ),
    "csv of names with HTML": data("x.csv", _csv("<b>,a,b,c,d\n" + "1,2,3,4,5\n" * 8)),
}


def cases() -> tuple[Case, ...]:
    refused = [Case(name, make, says) for name, (make, says) in _REFUSED.items()]
    return (*refused, *(sound(name, make) for name, make in _ODD.items()))
