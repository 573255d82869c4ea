"""What ``torch.save`` wrote inside another file: checked, then read without running any of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.declared import STORAGE_TYPES
from gradaudit.subject.formats.pickles.dry import DryPickle, dry_read
from gradaudit.subject.formats.torch_files.archive import Record, archive_in
from gradaudit.subject.formats.torch_files.limits import check_declared
from gradaudit.subject.formats.torch_files.trust import refusal
from gradaudit.telling import told

_PICKLE_LIMIT = 1 << 24
ALLOWED = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
    }
    | {f"torch.{name}Storage" for name in (*STORAGE_TYPES, "Untyped")}
    | {f"torch.storage.{name}" for name in ("UntypedStorage", "TypedStorage")}
    | {f"torch.{name}" for name in (*STORAGE_TYPES.values(), "uint16", "uint32", "uint64")}
)


def read_inner(stream: bytes, path: Path) -> Any:
    """Tensors, numbers, text and plain containers that ``torch.save`` wrote.

    Raises ``RefusedFile`` naming what else the pickle asks for; ``UnreadableFile`` if damaged.
    """
    dry = dry_inner(stream, path)
    beyond = sorted((dry.names - ALLOWED) | dry.misuses)
    if beyond:
        raise refusal(f"the pickle of example inputs in {path.name}", beyond)
    try:
        return torch.load(io.BytesIO(stream), weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises whatever its reader met
        raise _damaged(path, error) from None


def dry_inner(stream: bytes, path: Path) -> DryPickle:
    """What the pickle in ``stream`` asks for, held against what is stored beside it."""
    try:
        with zipfile.ZipFile(io.BytesIO(stream)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(stream):
                raise RefusedFile(f"the example inputs in {path.name} are compressed")
        found = archive_in(io.BytesIO(stream), Record(0, len(stream)), path)
        if len(found.pickle) > _PICKLE_LIMIT:
            raise RefusedFile(f"{path.name} holds a pickle of {len(found.pickle):,} bytes")
        dry, _ = dry_read(found.pickle)
    except RefusedFile:
        raise
    except Exception as error:  # a pickle can make `pickle` raise anything
        raise _damaged(path, error) from None
    check_declared(dry, found.sizes, path)
    return dry


def _damaged(path: Path, error: Exception) -> UnreadableFile:
    return UnreadableFile(f"the example inputs in {path.name} are damaged", found=told(error))
