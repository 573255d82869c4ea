"""``.npy`` and ``.npz`` files of plain numbers; what a header claims is held against the file."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradaudit.errors import UnreadableFile
from gradaudit.telling import quoted, told

_HEADER_LIMIT = 10_000  # bytes; numpy's own limit on what it takes apart


def read_arrays(path: Path) -> Any:
    """The array in an ``.npy`` file, or a dict of those in an ``.npz`` file.

    Raises ``UnreadableFile`` for arrays of objects, for damaged files, and for headers that claim
    more than the file holds; nothing is allocated before that is known.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                return _read(stream, path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            return {
                item.filename.removesuffix(".npy"): _member(archive, item)
                for item in archive.infolist()
            }
    except Exception as error:  # numpy passes on whatever its parsers met
        raise UnreadableFile(
            f"{path} cannot be read as numpy arrays",
            found=told(error),
            next_step="save plain numbers",
        ) from None


def _member(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    with archive.open(item) as stream:
        try:
            return _read(stream, item.file_size)
        except ValueError as error:
            raise ValueError(f"{error} (in {quoted(item.filename)})") from None


def _read(stream: IO[bytes], size: int) -> np.ndarray[Any, Any]:
    start = stream.read(12)
    version, wide = tuple(start[6:8]), start[6:7] != b"\1"
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    if version not in ((1, 0), (2, 0), (3, 0)) or length > _HEADER_LIMIT:
        raise ValueError(f"a header of version {version} and {length:,} bytes")
    stream.seek(8)
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which may run code")
    count = math.prod(shape)
    needed, held = count * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or needed > held:
        raise ValueError(f"an array of {needed:,} bytes where {max(held, 0):,} are stored")
    content = stream.read(needed)
    if len(content) < needed:
        raise ValueError("an array that is cut short")
    flat = np.frombuffer(content, dtype, count)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
