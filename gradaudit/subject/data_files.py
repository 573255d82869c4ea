"""Sample files: ``.pt``, ``.npz``, ``.npy``, ``.safetensors`` and ``.csv``, told by content."""

from __future__ import annotations

import csv
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gradaudit.errors import BadData, UnreadableFile
from gradaudit.subject.formats.numpy_file import read_arrays
from gradaudit.subject.formats.safetensors_file import load_safetensors
from gradaudit.subject.formats.torch_files.opening import load_torch_file
from gradaudit.telling import missing, told

_WANTED = "a .pt, .npz, .npy, .safetensors or .csv file, or code as file.py:name"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9c"
_NPZ_LIMIT, _NPZ_RATIO, _NPZ_SLACK = 1 << 34, 100, 1 << 26


def read_data_file(path: Path, *, target: str | None, trust: bool) -> Any:
    """The sample in a file, as arrays and tensors.

    ``target`` names a CSV's target column (default: the last). Raises ``UnreadableFile`` for a
    missing, empty or unknown file, ``BadData`` for a table with cells that are not numbers.
    """
    if not path.exists():
        raise missing(path)
    if not stat.S_ISREG(path.stat().st_mode):
        found = "a directory" if path.is_dir() else "a special file"
        raise UnreadableFile(f"{path} is no data file", expected=_WANTED, found=found)
    with path.open("rb") as stream:
        head = stream.read(4096)
    if not head:
        raise BadData(f"{path} is empty", expected=_WANTED)
    return _read(path, head, target=target, trust=trust)


def _read(path: Path, head: bytes, *, target: str | None, trust: bool) -> Any:
    if head.startswith(b"\x93NUMPY"):
        return read_arrays(path)
    if head.startswith(b"PK"):
        return _zip(path, trust=trust)
    if head.startswith(_LEGACY):
        return load_torch_file(path, trust=trust)
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= 100_000_000:
        return load_safetensors(path)
    if b"\0" in head:
        raise UnreadableFile(f"{path} is of no known kind", expected=_WANTED, found="binary data")
    return read_csv(path, target)


def _zip(path: Path, *, trust: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(item.file_size for item in archive.infolist())
    except Exception:  # Python's reader raises half a dozen kinds
        raise UnreadableFile(
            f"{path} is a damaged or truncated zip archive", next_step="copy or save it again"
        ) from None
    if any(name.endswith("/data.pkl") for name in names):
        return load_torch_file(path, trust=trust)
    if not names or not all(name.endswith(".npy") for name in names):
        raise UnreadableFile(f"{path} is a zip archive without arrays", expected=_WANTED)
    if unpacked > min(_NPZ_LIMIT, _NPZ_SLACK + _NPZ_RATIO * path.stat().st_size):
        raise UnreadableFile(
            f"{path} unpacks to {unpacked:,} bytes",
            expected=f"at most 16 GB, and {_NPZ_RATIO} times its size",
        )
    return read_arrays(path)


def read_csv(path: Path, target: str | None) -> Mapping[str, np.ndarray[Any, Any]]:
    """``{"x": float32 [rows, columns - 1], "y": [rows]}`` from a table with a header.

    The target is int64 where its values are 0, 1, ..., K - 1 (classes), else float32.
    """
    header, rows = _table(path)
    column = _target_column(path, header, target)
    values = np.empty((len(rows), len(header)), dtype=np.float64)
    for r, row in enumerate(rows):
        if len(row) != len(header):
            raise BadData(
                f"{path.name}, row {r + 2}, has {len(row)} cells",
                expected=f"{len(header)}, as the header has",
            )
        for c, cell in enumerate(row):
            values[r, c] = _number(cell, path, r + 2, header[c])
    x, y = np.delete(values, column, axis=1), values[:, column]
    return {"x": x.astype(np.float32), "y": _classes(y)}


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [row for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(
            f"{path} is no CSV table", expected=_WANTED, found=told(error)
        ) from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    if len(header) < 2:
        raise BadData(
            f"{path.name} is no table",
            expected="a CSV with a header and at least two columns, the target last",
            found="one column",
        )
    if all(_is_number(cell) for cell in header):
        raise BadData(
            f"{path.name} has no header",
            expected="column names in the first row",
            found=", ".join(header[:4]),
        )
    if len(lines) == 1:
        raise BadData(f"{path.name} has a header but no rows", expected="at least one row")
    return header, lines[1:]


def _target_column(path: Path, header: list[str], target: str | None) -> int:
    if target is None:
        return len(header) - 1
    if target not in header:
        raise BadData(
            f"{path.name} has no column {target!r} for --target",
            expected="one of " + ", ".join(header[:12]),
        )
    return header.index(target)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, path: Path, line: int, column: str) -> float:
    if _is_number(cell):
        return float(cell)
    raise BadData(
        f"{path.name}, row {line}, column {column!r}, is not a number",
        found=repr(cell) if cell.strip() else "an empty cell",
        next_step="encode categories as numbers and fill gaps first",
    )


def _classes(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    seen = np.unique(y)
    if np.array_equal(seen, np.arange(len(seen))) and len(seen) > 1:
        return y.astype(np.int64)
    return y.astype(np.float32)
