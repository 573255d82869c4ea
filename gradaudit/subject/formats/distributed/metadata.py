"""``.metadata`` of torch.distributed.checkpoint: a pickle, read with stand-ins of our own.

torch itself reads it without any restriction. Here it can name nothing but the records that torch
writes, and what it names is not imported: each is a stand-in that holds values and does nothing.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.subject.formats.pickles.bounded import BoundedUnpickler, table
from gradaudit.subject.formats.pickles.dry import dry_read
from gradaudit.subject.formats.torch_files.trust import named
from gradaudit.telling import told

_LARGEST = 1 << 28  # bytes
_LONGEST_PATH = 1 << 15  # characters
_RECORDS = "torch.distributed.checkpoint.metadata"
_SHARDS = "torch.distributed._shard.sharded_tensor.metadata"  # where torch before 2.4 had some
_LAYOUTS = ("torch.strided",)


class SavedRecord:
    """What a record of the pickle holds, by name or in order."""

    kind = ""
    # of a record that the pickle gives no values: it is made without a call
    values: Mapping[str, Any] = MappingProxyType({})
    order: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.values = state
        elif isinstance(state, tuple):
            self.order = state
        else:
            raise ValueError(f"a {self.kind} that holds {type(state).__name__}")


def _record(name: str) -> type[SavedRecord]:
    return type(name, (SavedRecord,), {"kind": name})


def _size(values: Any = ()) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(type(each) is int for each in values):
        raise ValueError("a torch.Size of something else than whole numbers")
    return tuple(values)


def _layout(name: Any) -> str:
    if not isinstance(name, str) or name not in _LAYOUTS:
        raise ValueError("a tensor of another layout than rows and columns")
    return name


def _path(*parts: Any) -> str:
    # what lists of lists are as text may be larger than any memory
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path that is no text")
    if sum(map(len, parts)) > _LONGEST_PATH:
        raise ValueError("a path longer than any")
    return "/".join(parts)


def _encoding(number: Any) -> int:
    if type(number) is not int:
        raise ValueError("a memory format that is no number")
    return number


_NAMES = (
    "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
    "TensorProperties", "MetadataIndex", "StorageMeta",
)  # fmt: skip
_ALLOWED: dict[str, Any] = {
    **{f"{_RECORDS}.{name}": _record(name) for name in _NAMES},
    f"{_SHARDS}.TensorProperties": _record("TensorProperties"),
    f"{_RECORDS}._MEM_FORMAT_ENCODING": _encoding,
    f"{_SHARDS}.MEM_FORMAT_ENCODING": _encoding,
    "torch.distributed.checkpoint.filesystem._StorageInfo": _record("_StorageInfo"),
    "torch.Size": _size,
    "torch.serialization._get_layout": _layout,
    "collections.OrderedDict": table,
    **{f"{home}.{name}": _path for home in ("pathlib", "pathlib._local")
       for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{f"torch.{name}": each for name, each in vars(torch).items()
       if isinstance(each, torch.dtype)},
}  # fmt: skip


def read_metadata(path: Path) -> SavedRecord:
    """The record ``Metadata`` in the file at ``path``.

    Raises ``RefusedFile`` for a pickle that names anything else than torch's own records,
    ``UnreadableFile`` for a damaged one.
    """
    text = _read(path)
    try:
        found = _Reader(io.BytesIO(text)).load()
    except Exception as error:  # a pickle raises whatever it meets
        raise _fault(text, error) from None
    if not isinstance(found, SavedRecord) or found.kind != "Metadata":
        raise _damaged(f"an object that is no Metadata ({type(found).__name__})")
    return found


def _fault(text: bytes, error: Exception) -> GradauditError:
    refused = [name for name in _asked_for(text) if name not in _ALLOWED]
    if not refused:
        return _damaged(told(error))
    return RefusedFile(
        f"the pickle .metadata would run code to be opened: it needs {named(refused)}",
        expected="the records that torch.distributed.checkpoint.save writes",
        next_step="do not open this folder with torch; it is hostile, or from other software",
    )


def _asked_for(text: bytes) -> list[str]:
    """Everything that the pickle names, sorted; raises ``UnreadableFile`` for a damaged one."""
    try:
        seen, _ = dry_read(text)
    except Exception as error:  # a pickle raises whatever it meets
        raise _damaged(told(error)) from None
    return sorted(seen.names)


def globals_of(path: Path) -> list[tuple[str, bool]]:
    """What the pickle names, and whether that is on the list of what is read here."""
    return [(name, name in _ALLOWED) for name in _asked_for(_read(path))]


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _LARGEST:
        raise RefusedFile(f".metadata has {size:,} bytes", expected=f"at most {_LARGEST:,}")
    return path.read_bytes()


class _Reader(BoundedUnpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            found: Callable[..., Any] = _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to something outside the pickle")


def _damaged(found: str) -> UnreadableFile:
    return UnreadableFile(
        ".metadata is damaged, or not what torch.distributed.checkpoint writes",
        found=found,
        next_step="copy or save the folder again",
    )
