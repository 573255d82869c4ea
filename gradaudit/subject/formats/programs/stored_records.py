"""The records of a zip archive that torch wrote, read once and held against what they claim."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.next_steps import HOSTILE_FILE, SAVE_AGAIN
from gradaudit.subject.formats.torch_files.archive import member
from gradaudit.subject.formats.torch_files.limits import check_archive
from gradaudit.telling import quoted, told

_ENCRYPTED = 0x1
_BROKEN = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError,
    UnicodeDecodeError,  # a name before a record that is no text, as the directory says it is
)  # fmt: skip
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Records:
    """An open archive; names are below its one top folder."""

    archive: zipfile.ZipFile
    root: str
    entries: dict[str, zipfile.ZipInfo]

    def read(self, name: str, most: int | None = None) -> bytes:
        """A record's bytes. Raises ``KeyError``; ``RefusedFile`` above ``most`` bytes."""
        entry = self.entries[name]
        if most is not None and entry.file_size > most:
            raise RefusedFile(
                f"the record {quoted(name)} has {entry.file_size:,} bytes",
                expected=f"{most:,} at most",
                next_step=HOSTILE_FILE,
            )
        return member(self.archive, entry)

    def size(self, name: str) -> int:
        """Bytes of a record; 0 for one that is not there."""
        entry = self.entries.get(name)
        return 0 if entry is None else entry.file_size

    def below(self, folder: str) -> tuple[str, ...]:
        """Names that start with ``folder``."""
        return tuple(name for name in self.entries if name.startswith(folder))


@contextmanager
def stored_records(path: Path) -> Iterator[Records]:
    """The archive at ``path``, open.

    Raises ``RefusedFile`` for one with names outside its own folder, names given twice, encrypted
    records, or records that unpack to more than is stored; ``UnreadableFile`` for a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            root, entries = _named(archive, path)
            yield Records(archive, root, entries)
    except _BROKEN as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: BaseException) -> UnreadableFile:
    """The error for a file that cannot be read to its end."""
    return UnreadableFile(
        f"{path.name} cannot be read: it is damaged or truncated",
        found=told(error),
        next_step=SAVE_AGAIN,
    )


def _named(archive: zipfile.ZipFile, path: Path) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    root = ""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        top, _, name = entry.filename.partition("/")
        root = root or top
        # torch's own reader takes the name as stored; here it is cut at a zero byte
        parts = re.split(r"[/\\]", entry.orig_filename)
        if top != root or not name or ".." in parts or entry.orig_filename != entry.filename:
            raise RefusedFile(
                f"{path.name} holds a record named {quoted(entry.orig_filename)}",
                expected="names below one folder",
                next_step=HOSTILE_FILE,
            )
        if name in entries:
            raise RefusedFile(
                f"{path.name} holds two records named {quoted(name)}", next_step=HOSTILE_FILE
            )
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _STORED:
            raise RefusedFile(
                f"the record {quoted(name)} in {path.name} is encrypted or packed unusually",
                expected="an archive as torch writes it",
            )
        entries[name] = entry
    return root, entries
