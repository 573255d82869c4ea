"""Where the records of ``torch.save``'s zip archive lie in the file.

A zip says twice where and how large an entry is: in the directory at its end and in front of the
entry. Readers that trust different ones see different files, so both have to agree here.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.next_steps import HOSTILE_FILE
from gradaudit.telling import quoted

PICKLE_LIMIT = 1 << 28  # bytes
_LOCAL = 30  # bytes of a local header before its name
_ENCRYPTED = 1
_END, _LOCATOR, _END64 = 22, 20, 76  # bytes of end records, the last with its locator


@dataclass(frozen=True)
class Record:
    """A stretch of a file: one storage, or a whole archive within it."""

    begin: int
    size: int


class Window(io.BufferedReader):
    """A part of a file, as a file of its own to be read."""

    def __init__(self, path: Path, part: Record) -> None:
        super().__init__(_RawWindow(path, part))


class _RawWindow(io.RawIOBase):
    def __init__(self, path: Path, part: Record) -> None:
        super().__init__()
        self._file, self._part, self._at = path.open("rb", buffering=0), part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._part.size}[whence]
        if start + offset < 0:
            raise OSError("a place before the start of the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._part.size - self._at)]
        self._file.seek(self._part.begin + self._at)
        count = self._file.readinto(view) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class TorchArchive:
    """The pickle of a PyTorch file, and where its storages lie."""

    pickle: bytes
    storages: Mapping[str, Record]  # by the key that the pickle calls them by
    direct: bool  # stored as they are, little endian: a tensor is the bytes at its place

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes stored for each storage."""
        return {key: record.size for key, record in self.storages.items()}


def read_archive(path: Path, part: Record | None = None) -> TorchArchive:
    """Of the whole file, or of an archive that is a part of it.

    Raises ``RefusedFile`` for an archive that contradicts itself or holds too large a pickle.
    ``zipfile.BadZipFile`` and ``OSError`` pass through.
    """
    part = part or Record(0, path.stat().st_size)
    with Window(path, part) as stream:
        return archive_in(stream, part, path)


def archive_in(stream: BinaryIO, part: Record, path: Path) -> TorchArchive:
    """Of an open file, which is the ``part`` of the one at ``path``; raises as above."""
    with zipfile.ZipFile(stream) as archive:
        items = archive.infolist()
        _check_names(items, path)
        check_end(stream, archive, part.size, path)
        # torch looks in the first entry's folder only
        first = f"{items[0].filename.partition('/')[0]}/data.pkl" if items else ""
        pickles = [item for item in items if item.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].filename != first:
            raise _contradiction(path, f"{len(pickles)} entries named data.pkl", "one")
        if pickles[0].file_size > PICKLE_LIMIT:
            raise RefusedFile(f"{path.name} holds a pickle of {pickles[0].file_size:,} bytes")
        begins = _begins(items, stream, part, path)
        prefix = pickles[0].filename.removesuffix("data.pkl")
        folder = f"{prefix}data/"
        held = [item for item in items if item.filename.startswith(folder)]
        return TorchArchive(
            member(archive, pickles[0]),
            {
                item.filename.removeprefix(folder): Record(
                    part.begin + begins[item.filename], item.file_size
                )
                for item in held
            },
            all(item.compress_type == zipfile.ZIP_STORED for item in held)
            and _order(archive, f"{prefix}byteorder") == b"little",
        )


def check_end(stream: BinaryIO, archive: zipfile.ZipFile, size: int, path: Path) -> None:
    """Raise ``RefusedFile`` where the end record does not say where the directory is, and
    ``zipfile.BadZipFile`` where it is not at the end.

    Python's reader takes the directory right before the end record, torch's the one at the place
    that the record names.
    """
    stream.seek(max(0, size - _END - _END64))
    tail = stream.read(_END + _END64)
    end, end64 = tail[-_END:], tail[:-_END]
    if end[:4] != b"PK\5\6" or end[20:22] != bytes(2):
        raise zipfile.BadZipFile("no end record where the archive ends")
    (begins,) = struct.unpack_from("<I", end, 16)
    if end64[-_LOCATOR:].startswith(b"PK\6\7"):
        place, (begins,) = size - _END - _END64, struct.unpack_from("<Q", end64, 48)
        if struct.unpack_from("<Q", end64[-_LOCATOR:], 8) != (place,):
            raise _contradiction(path, "a second directory")
    if begins != archive.start_dir:
        raise _contradiction(path, "a second directory")


def member(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> bytes:
    """An entry's content, and no more of it than the directory says: deflated, it may be more."""
    with archive.open(item) as stream:
        return stream.read(item.file_size)


def _check_names(items: Iterable[zipfile.ZipInfo], path: Path) -> None:
    seen: set[str] = set()
    for item in items:
        # torch's reader takes no notice of case, and Python's cuts names at a zero byte
        if item.filename.lower() in seen or item.filename != item.orig_filename:
            raise _contradiction(path, f"{quoted(item.orig_filename)} twice", "each entry once")
        seen.add(item.filename.lower())
        if item.flag_bits & _ENCRYPTED:
            raise RefusedFile(f"{path.name} holds the encrypted entry {quoted(item.filename)}")


def _begins(
    items: Iterable[zipfile.ZipInfo], stream: BinaryIO, part: Record, path: Path
) -> dict[str, int]:
    """Where the bytes of each entry begin; entries must not overlap."""
    begins, reached, size = {}, 0, part.size
    for item in sorted(items, key=lambda item: item.header_offset):
        stream.seek(item.header_offset)
        head = stream.read(_LOCAL)
        name_size, extra_size = head[26] + 256 * head[27], head[28] + 256 * head[29]
        name = stream.read(name_size)
        begin = item.header_offset + _LOCAL + name_size + extra_size
        if head[:4] != b"PK\3\4" or name != _encoded(item):
            raise _contradiction(path, f"another entry where {quoted(item.filename)} should be")
        if item.header_offset < reached or begin + item.compress_size > size:
            raise _contradiction(path, f"{quoted(item.filename)} across another entry or the end")
        begins[item.filename] = begin
        reached = begin + item.compress_size
    return begins


def _encoded(item: zipfile.ZipInfo) -> bytes:
    return item.orig_filename.encode("utf-8" if item.flag_bits & 0x800 else "cp437")


def _order(archive: zipfile.ZipFile, name: str) -> bytes:
    """Byte order as the archive says; files of before torch 2.1 do not, and are little endian."""
    if name not in archive.namelist() or archive.getinfo(name).file_size > 16:
        return b"little"
    return member(archive, archive.getinfo(name))


def _contradiction(path: Path, found: str, expected: str = "") -> RefusedFile:
    return RefusedFile(
        f"the zip archive {path.name} contradicts itself",
        found=found,
        expected=expected,
        next_step=HOSTILE_FILE,
    )
