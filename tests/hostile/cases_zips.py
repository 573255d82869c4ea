"""Archives that lie about what they hold, or hold it where it should not be."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.hostile.harness import Case, Place, sound
from tests.hostile.opcodes import called, rezipped, tensor, value, whole

CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def saved(place: Place, name: str = "model.pt") -> Path:
    """A sound state dict, in an archive that torch wrote."""
    path = place.files / name
    torch.manual_seed(0)
    torch.save(nn.Linear(8, 8).state_dict(), path)
    return path


def with_bytes(change: Callable[[bytearray], bytes | bytearray | None]) -> Callable[[Place], Path]:
    """The sound archive with its bytes changed."""

    def make(place: Place) -> Path:
        path = saved(place)
        content = bytearray(path.read_bytes())
        changed = change(content)
        path.write_bytes(bytes(content if changed is None else changed))
        return path

    return make


def _names(*names: str) -> Callable[[Place], Path]:
    """Members by full name, beside those that torch wrote."""

    def make(place: Place) -> Path:
        path = saved(place)
        with zipfile.ZipFile(path, "a") as archive:
            for name in names:
                archive.writestr(name, "evil")
        return path

    return make


def _central(
    field: int, form: str, number: int, *, of: bytes = b"data.pkl"
) -> Callable[[Place], Path]:
    """A field in the central directory's entry of a member, overwritten."""

    def change(content: bytearray) -> None:
        start = content.index(CENTRAL)
        while True:
            length = struct.unpack_from("<H", content, start + 28)[0]
            if content[start + 46 : start + 46 + length].endswith(of):
                struct.pack_into(form, content, start + field, number)
                return
            start = content.index(CENTRAL, start + 46)

    return with_bytes(change)


def _local(field: int, form: str, number: int) -> Callable[[Place], Path]:
    return with_bytes(lambda content: struct.pack_into(form, content, field, number))


def _end(field: int, form: str, number: int) -> Callable[[Place], Path]:
    """A field of the end record; torch writes one of zip64 beside it, which goes."""

    def make(place: Place) -> Path:
        path = rezipped(saved(place), {})
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, content.rindex(END) + field, number)
        path.write_bytes(content)
        return path

    return make


def _deflated(size: int) -> Callable[[Place], Path]:
    """A storage of zeros, deflated: a thousandth of what it unpacks to."""

    def make(place: Place) -> Path:
        path = place.files / "model.pt"
        data = whole(value({"w": tensor((size // 4,), numel=size // 4)}))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", data)
            with archive.open("archive/data/0", "w") as member:
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))
            archive.writestr("archive/version", "3\n")
        return path

    return make


def _pickle_bomb(place: Place) -> Path:
    """A deflated ``data.pkl`` of 300 MB."""
    path = place.files / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w") as member:
            for _ in range(300):
                member.write(b"N0" * (1 << 19))
            member.write(b"N.")
        archive.writestr("archive/version", "3\n")
    return path


def _lying_deflate(place: Place) -> Path:
    """Sizes in the directory are small; the stream unpacks to 300 MB all the same."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    path = place.files / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", packed)
        archive.writestr("archive/version", "3\n")
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, 8, zipfile.ZIP_DEFLATED)
    central = content.index(CENTRAL)
    struct.pack_into("<H", content, central + 10, zipfile.ZIP_DEFLATED)
    struct.pack_into("<I", content, central + 24, 64)
    path.write_bytes(content)
    return path


def _quine(place: Place) -> Path:
    """Archives within archives; the innermost is a bomb."""
    content = bytes(1 << 20) * 16
    for _ in range(6):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for index in range(8):
                archive.writestr(f"{index}.zip", content)
        content = buffer.getvalue()
    (place.files / "model.pt").write_bytes(content)
    return place.files / "model.pt"


def _overlapping(place: Place) -> Path:
    """Ten thousand entries of the directory that all point at one member."""
    content = saved(place).read_bytes()
    first, end = content.index(CENTRAL), content.rindex(END)
    entry = bytearray(content[first : content.index(CENTRAL, first + 4)])
    length = struct.unpack_from("<H", entry, 28)[0]
    body = b""
    for index in range(10_000):
        name = f"model/data/{index:09}".encode()[:length].ljust(length, b"0")
        entry[46 : 46 + length] = name
        body += bytes(entry)
    tail = bytearray(content[end:])
    whole_directory = content[first:end] + body
    struct.pack_into("<HH", tail, 8, 10_006, 10_006)
    struct.pack_into("<I", tail, 12, len(whole_directory))
    path = place.files / "model.pt"
    path.write_bytes(content[:first] + whole_directory + bytes(tail))
    return path


def _two_directories(place: Place) -> Path:
    """A whole second archive behind the first: readers disagree which one counts."""
    path = saved(place)
    other = place.files / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("model/data.pkl", whole(called("posix system", place.command)))
        archive.writestr("model/version", "3\n")
    path.write_bytes(path.read_bytes() + other.read_bytes())
    other.unlink()
    return path


def _hidden_by_comment(place: Place) -> Path:
    """A bad archive whose comment is a good one, in which another reader finds its end."""
    good, path = saved(place).read_bytes(), place.files / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", whole(called("posix system", place.command)))
        archive.writestr("model/version", "3\n")
        archive.comment = good[:60_000]
    return path


def _duplicate(*, evil_first: bool) -> Callable[[Place], Path]:
    """Two members of the same name: which one is checked, and which one is opened?"""

    def make(place: Place) -> Path:
        evil = whole(called("posix system", place.command))
        path = saved(place)
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        at = next(i for i, (name, _) in enumerate(members) if name.endswith("/data.pkl"))
        members.insert(at if evil_first else at + 1, (members[at][0], evil))
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.simplefilter("ignore")  # Python's writer warns of what it is made to do
            for name, content in members:
                archive.writestr(name, content)
        return path

    return make


def _case_twin(place: Place) -> Path:
    """Names that differ in case only: torch's reader looks names up without regard to it."""
    return rezipped(saved(place), {}, {"DATA.PKL": whole(called("posix system", place.command))})


def _case_twin_first(place: Place) -> Path:
    path = saved(place)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    top = members[0][0].split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{top}/Data.PKL", whole(called("posix system", place.command)))
        for name, content in members:
            archive.writestr(name, content)
    return path


def _zip64(place: Place) -> Path:
    """An end record that sends the reader to a zip64 record at the end of the universe."""
    content = saved(place).read_bytes()
    end = content.rindex(END)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 2**63 - 1, 1)
    tail = bytearray(content[end:])
    struct.pack_into("<HHII", tail, 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    path = place.files / "model.pt"
    path.write_bytes(content[:end] + locator + bytes(tail))
    return path


def _zip64_extra(place: Place) -> Path:
    """A member whose true size stands in an extra field: 2**60 bytes."""

    class _Huge(zipfile.ZipInfo):
        def FileHeader(self, zip64: bool | None = None) -> bytes:
            return super().FileHeader(zip64)

    path = place.files / "model.pt"
    data = whole(value({"w": tensor((4,))}))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
        archive.filelist[-1].extra = b""
        archive.filelist[-1].file_size = 1 << 60
        archive.filelist[-1].compress_size = 1 << 60
    return path


def _many_members(place: Place) -> Path:
    path = saved(place)
    with zipfile.ZipFile(path, "a") as archive:
        for index in range(5_000):
            archive.writestr(f"model/x{index}", b"")
    return path


def _no_zip_end(content: bytearray) -> bytes:
    return bytes(content[: content.rindex(END)])


def _crc(place: Place) -> Path:
    """A payload whose checksum is wrong in the directory: one reader objects, another reads on."""
    path = rezipped(saved(place), {"/data.pkl": whole(called("posix system", place.command))})
    content = bytearray(path.read_bytes())
    start = content.index(CENTRAL)
    struct.pack_into("<I", content, start + 16, 0xDEADBEEF)
    path.write_bytes(content)
    return path


_MAY = frozenset({0, 1, 2, 3})
_PLAIN: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a bomb of 100 MB": (_deflated(100 << 20), "unpacks|compressed"),
    "a pickle of 300 MB": (_pickle_bomb, "unpacks|compressed|pickle"),
    "a stream that unpacks to more than it says": (_lying_deflate, ""),
    "archives within archives": (_quine, "zip archive without a model"),
    "the payload twice, first": (_duplicate(evil_first=True), ""),
    "the payload twice, last": (_duplicate(evil_first=False), ""),
    "a payload with a wrong checksum": (_crc, ""),
    "two archives in one": (_two_directories, ""),
    "zip64 to nowhere": (_zip64, "damaged"),
    "a member of 2**60 bytes": (_zip64_extra, ""),
    "cut in half": (with_bytes(lambda c: c[: len(c) // 2]), "damaged"),
    "without its end": (with_bytes(_no_zip_end), "damaged"),
    "only the first four bytes": (with_bytes(lambda c: c[:4]), "damaged"),
    "only an end record": (with_bytes(lambda c: END + bytes(18)), "zip archive|damaged"),
    "encrypted": (_central(8, "<H", 1), ""),
    "strongly encrypted": (_central(8, "<H", 0x41), ""),
    "a compression nobody knows": (_central(10, "<H", 99), ""),
    "version 99 needed": (_central(6, "<H", 990), ""),
    "a header offset past the end": (_central(42, "<I", 0x7FFFFFFF), ""),
    "a size of 4 GB": (_central(24, "<I", 0xFFFFFFF0), ""),
    "both sizes of 4 GB": (_central(20, "<I", 0xFFFFFFF0), ""),
    "a storage's size of 4 GB": (_central(24, "<I", 0xFFFFFFF0, of=b"/data/0"), ""),
    "a name longer than the directory": (_central(28, "<H", 0xFFFF), ""),
    "an extra field longer than the directory": (_central(30, "<H", 0xFFFF), ""),
    "a directory past the end": (_end(16, "<I", 0x7FFFFFFF), "damaged"),
    "a directory of 2 GB": (_end(12, "<I", 0x7FFFFFFF), "damaged"),
    "entries that overlap": (_overlapping, ""),
}
_ODD: dict[str, Callable[[Place], Path]] = {
    "traversal names": _names("../../evil", "model/../../../evil", "..\\..\\evil"),
    "absolute names": _names("/tmp/gradaudit-evil", "C:\\evil"),
    "names with NUL": with_bytes(lambda c: bytes(c).replace(b"data/1", b"data\x001")),
    "names with escapes": _names("model/\x1b[31m\u202e<script>\n"),
    "a name of 60 kB": _names("model/" + "n" * 60_000),
    "a data.pkl in capitals": _case_twin,
    "a data.pkl in capitals first": _case_twin_first,
    "5,000 members": _many_members,
    "an archive in the comment": _hidden_by_comment,
    "no entries": _end(8, "<I", 0),
    "65,535 entries": _end(8, "<H", 0xFFFF),
    "bytes in front": with_bytes(lambda c: b"\0" * 4096 + bytes(c)),
    "text in front": with_bytes(lambda c: b"#!/bin/sh\ntouch canary\n" + bytes(c)),
    "bytes behind": with_bytes(lambda c: bytes(c) + b"\0" * 4096),
    "wrong local header": _local(0, "<I", 0x04034B51),
    "local sizes that differ": _local(22, "<I", 7),
    "a local name longer than the file": _local(26, "<H", 0xFFFF),
    "a wrong checksum": _central(16, "<I", 1),
    "a future version": lambda place: rezipped(saved(place), {"/version": b"99\n"}),
    "a byte order nobody knows": lambda place: rezipped(saved(place), {"byteorder": b"middle"}),
    "a byte order of 1 MB": lambda place: rezipped(saved(place), {"byteorder": b"l" * (1 << 20)}),
}


def cases() -> tuple[Case, ...]:
    refused = [Case(name, make, says) for name, (make, says) in _PLAIN.items()]
    return (*refused, *(sound(name, make) for name, make in _ODD.items()))
