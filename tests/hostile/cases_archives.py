"""Exported programs and TorchScript, sound but for one member that was exchanged."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.harness import Case, Place, sound
from tests.hostile.mutations import MODELS
from tests.hostile.opcodes import called, torch_zip, whole

Members = list[tuple[str, bytes]]
Change = Callable[[Members, Place], Members]


@cache
def _made(kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        return MODELS[kind](Path(folder)).read_bytes()


def changed(kind: str, change: Change) -> Callable[[Place], Path]:
    """A file that the real tool wrote, with its members changed."""

    def make(place: Place) -> Path:
        with zipfile.ZipFile(io.BytesIO(_made(kind))) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        path = place.files / ("model.pt2" if kind == "pt2" else "model.pt")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in change(members, place):
                archive.writestr(name, content)
        return path

    return make


def payload(place: Place) -> bytes:
    return whole(called("posix system", place.command))


def archived(place: Place) -> bytes:
    """The payload in an archive of torch's, as inputs and constants are stored."""
    path = torch_zip(place.files / "inner", payload(place))
    content = path.read_bytes()
    path.unlink()
    return content


def instead(end: str, content: Callable[[Place], bytes]) -> Change:
    """Members whose names end so hold this instead; at least one has to."""

    def change(members: Members, place: Place) -> Members:
        found = [(n, content(place) if n.endswith(end) else c) for n, c in members]
        assert found != members, f"no member ends in {end}"
        return found

    return change


def adding(name: str, content: Callable[[Place], bytes]) -> Change:
    """One member more, in the archive's own folder."""

    def change(members: Members, place: Place) -> Members:
        top = members[0][0].split("/")[0]
        return [*members, (f"{top}/{name}", content(place))]

    return change


def replacing(end: str, old: bytes, new: bytes) -> Change:
    """A word in a member exchanged."""

    def change(members: Members, place: Place) -> Members:
        found = [(n, c.replace(old, new) if n.endswith(end) else c) for n, c in members]
        assert found != members, f"no {old!r} in a member that ends in {end}"
        return found

    return change


def _code(line: str) -> Change:
    """A line put first into every method of the scripted code."""

    def change(members: Members, place: Place) -> Members:
        found = []
        for name, content in members:
            if name.endswith(".py") and b"-> Tensor:\n" in content:
                first = f"-> Tensor:\n    {line}\n".encode()
                found.append((name, content.replace(b"-> Tensor:\n", first)))
            else:
                found.append((name, content))
        assert found != members
        return found

    return change


_EXPORTED: dict[str, Change] = {
    "sample inputs, bare": instead("sample_inputs/model.pt", payload),
    "an operator that reads files": replacing(
        "models/model.json", b"torch.ops.aten.tanh.default", b"torch.ops.aten.from_file.default"
    ),
    "an operator of Python": replacing(
        "models/model.json", b"torch.ops.aten.tanh.default", b"os.system"
    ),
    "an operator by way of attributes": replacing(
        "models/model.json", b"torch.ops.aten.tanh.default", b"torch.ops.__class__.mro"
    ),
    "an operator of another library": replacing(
        "models/model.json", b"torch.ops.aten.tanh.default", b"torch.ops.evil.run.default"
    ),
}
_SCRIPTED: dict[str, Change] = {
    "an operator that prints": _code('print("\\x1b[31m")'),
    "a loop without end": _code("for _0 in range(9223372036854775807):\n      pass"),
    "an allocation of 4 TB": _code("evil = torch.zeros([1000000, 1000000])"),
    "a class of Python": _code("evil = __torch__.os.system"),
    "code that is no code": instead(".py", lambda place: b"import os; os.system('x')"),
    "code 100,000 levels deep": instead(".py", lambda place: b"(" * 100_000),
    "code that is no UTF-8": instead(".py", lambda place: b"\xff\xfe"),
}
_ODD: dict[str, tuple[str, Change]] = {
    "pt2: a constant more": ("pt2", adding("data/constants/evil.pt", archived)),
    "pt2: no version": ("pt2", instead("archive_version", lambda place: b"")),
    "pt2: another version": ("pt2", instead("archive_version", lambda place: b"99")),
    "pt2: another format": ("pt2", instead("archive_format", lambda place: b"evil")),
    "a pickle among the extra files": ("torchscript", adding("extra/evil.pkl", payload)),
    "Python among the extra files": ("pt2", adding("extra/evil.py", lambda p: p.code.encode())),
    "extra file of an exported program": ("pt2", adding("extra/evil.pkl", payload)),
}


def _unlike_the_directory(place: Place) -> Path:
    """The name before a record is no text, where the directory says it is."""
    path = place.files / "model.pt"
    content = _made("torchscript")
    parts = content.split(b"/code/__torch__", 1)
    directory = bytearray(b"/code/\xbb\xbb\xbborch__".join(parts))
    begin = directory.index(b"PK\1\2")
    while begin >= 0:  # flags of every entry: the name is UTF-8
        directory[begin + 9] |= 0x08
        begin = directory.find(b"PK\1\2", begin + 1)
    path.write_bytes(directory)
    return path


def cases() -> tuple[Case, ...]:
    found = [Case("torchscript: a name that is no UTF-8", _unlike_the_directory, "damaged")]
    found += [
        Case(f"pt2: {name}", changed("pt2", change), "") for name, change in _EXPORTED.items()
    ]
    found += [
        Case(f"torchscript: {name}", changed("torchscript", change), "")
        for name, change in _SCRIPTED.items()
    ]
    return (*found, *(sound(name, changed(*made)) for name, made in _ODD.items()))
