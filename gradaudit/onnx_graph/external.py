"""Tensors' data in files beside the model: which are safe to open, and reading from them."""

from __future__ import annotations

import os
import stat
from collections import Counter
from io import FileIO
from pathlib import Path, PureWindowsPath
from typing import NamedTuple, NoReturn

from onnx import TensorProto

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.telling import quoted

_BESIDE = "put the data beside the model, or save it with its data inside"
_DAMAGED = "the model or its data is damaged or incomplete: copy or export both again"


class _Place(NamedTuple):
    parts: tuple[str, ...]
    offset: int
    length: int | None  # None: up to the file's end


class _Found(NamedTuple):
    stream: FileIO
    offset: int


class DataFolder:
    """The folder that a model's external data must lie in; none for a model without a file.

    A context manager, which keeps the file that was read last open.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last: tuple[tuple[str, ...], FileIO] | None = None
        self._claimed: Counter[tuple[int, int]] = Counter()  # bytes by file

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def exists(self) -> bool:
        """Whether the model comes from a file."""
        return self._folder is not None

    def check(self, proto: TensorProto, needed: int, label: str) -> None:
        """Raise unless ``needed`` bytes are in the file that the tensor names, all its own."""
        if self._folder is None:
            raise UnreadableFile(
                f"{label} has its data in another file, which bytes in memory do not lead to",
                next_step="give load_onnx the model's path, or load the data into the ModelProto "
                "with onnx.load_external_data_for_model",
            )
        found = os.fstat(self._find(proto, needed, label).stream.fileno())
        key = (found.st_dev, found.st_ino)
        self._claimed[key] += needed
        if self._claimed[key] > found.st_size:
            raise UnreadableFile(
                f"{label} shares its bytes with other tensors",
                expected=f"tensors that take no more than the {found.st_size:,} bytes of a file",
                found=f"{self._claimed[key]:,}",
                next_step="the file is damaged or hostile",
            )

    def fill(self, proto: TensorProto, buffer: memoryview, label: str) -> None:
        """Read the tensor's bytes into ``buffer``."""
        stream, offset = self._find(proto, buffer.nbytes, label)
        done = 0
        try:
            stream.seek(offset)
            # the system reads 2 GB at once at most
            while done < buffer.nbytes and (got := stream.readinto(buffer[done:])):
                done += got
        except OSError as error:
            raise _unread(label, error) from None
        if done != buffer.nbytes:
            raise UnreadableFile(f"the data of {label} was cut while it was read")

    def _find(self, proto: TensorProto, needed: int, label: str) -> _Found:
        """The file that has the tensor's bytes, and where. Looked at anew each time."""
        place = _place(proto, label)
        stream = self._open(place.parts, label)
        size = os.fstat(stream.fileno()).st_size
        length = max(size - place.offset, 0) if place.length is None else place.length
        if place.offset + length > size:
            raise UnreadableFile(
                f"the data of {label} lies beyond the end of {quoted('/'.join(place.parts))}",
                expected=f"at least {place.offset + length:,} bytes",
                found=f"{size:,}",
                next_step=_DAMAGED,
            )
        if length != needed:
            raise UnreadableFile(
                f"the data of {label} does not fit its shape and type",
                expected=f"{needed:,} bytes",
                found=f"{length:,}",
                next_step=_DAMAGED,
            )
        return _Found(stream, place.offset)

    def _open(self, parts: tuple[str, ...], label: str) -> FileIO:
        if self._last is not None and self._last[0] == parts:
            return self._last[1]
        self._close()
        assert self._folder is not None
        try:
            descriptor = _descend(self._folder, parts, label)
        except (OSError, ValueError) as error:  # ValueError: a name with a null character
            raise _unread(label, error) from None
        try:
            _check_regular(os.fstat(descriptor), parts, label)
        except RefusedFile:
            os.close(descriptor)
            raise
        self._last = parts, FileIO(descriptor)
        return self._last[1]

    def _close(self) -> None:
        if self._last is not None:
            self._last[1].close()
            self._last = None


def _place(proto: TensorProto, label: str) -> _Place:
    entries: dict[str, str] = {}
    for each in proto.external_data:
        if each.key in entries:
            raise UnreadableFile(f"the data of {label} is placed twice: {quoted(each.key)}")
        entries[each.key] = each.value
    offset = _number(entries.get("offset", "0"), "offset", label)
    length = _number(entries["length"], "length", label) if "length" in entries else None
    return _Place(_parts(entries.get("location", ""), label), offset, length)


def _number(text: str, what: str, label: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20):
        raise UnreadableFile(
            f"the {what} of the data of {label} is no number of bytes",
            expected="a whole number, zero or more",
            found=quoted(text),
            next_step=_DAMAGED,
        )
    return int(text)


def _parts(location: str, label: str) -> tuple[str, ...]:
    """The location's parts. Raises ``RefusedFile`` for one that leads out of the folder."""
    if not location or not isinstance(location, str):
        raise UnreadableFile(f"the data of {label} is in no file", found=quoted(location))
    windows = PureWindowsPath(location)
    if location.startswith("/") or windows.drive or windows.root:
        _refuse(location, label, "an absolute path")
    parts = tuple(part for part in location.split("/") if part not in ("", "."))
    if ".." in parts or ".." in windows.parts:
        _refuse(location, label, "a path that leads out of it")
    if not parts:
        _refuse(location, label, "the folder itself")
    return parts


def _descend(folder: Path, parts: tuple[str, ...], label: str) -> int:
    """Open the file one folder after the other, so that nothing can be exchanged on the way."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for i, part in enumerate(parts):
        try:
            if stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                _refuse("/".join(parts[: i + 1]), label, "a symbolic link")
            last = i == len(parts) - 1
            below = os.open(part, flags if last else flags | os.O_DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def _check_regular(found: os.stat_result, parts: tuple[str, ...], label: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        _refuse("/".join(parts), label, "a folder, pipe or device")
    if found.st_nlink > 1:
        _refuse("/".join(parts), label, "a hard link to a file that may lie elsewhere")


def _refuse(location: str, label: str, found: str) -> NoReturn:
    raise RefusedFile(
        f"the data of {label} is in {quoted(location)}",
        expected="a file in the model's own folder",
        found=found,
        next_step=_BESIDE,
    )


def _unread(label: str, error: OSError | ValueError) -> UnreadableFile:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    name = getattr(error, "filename", None)
    where = f" of {quoted(name)}" if isinstance(name, str) else ""
    return UnreadableFile(
        f"the data of {label} cannot be read", found=said + where, next_step=_DAMAGED
    )
