"""Safetensors files: tensors by name, no code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from gradaudit.errors import UnreadableFile
from gradaudit.records.contents import Contents, TensorEntry
from gradaudit.subject.formats.reading import read_tensor
from gradaudit.subject.formats.safetensors_header import Header, HeaderEntry, read_header
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights
from gradaudit.telling import quoted

# The format's names of types -> torch's names; some came with later versions of torch.
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
}  # fmt: skip


def stored_safetensors(path: Path) -> StoredWeights:
    """The tensors of the file at ``path``, each read when it is asked for.

    Raises ``UnreadableFile`` for a file that breaks the format's rules, or whose types this torch
    does not know.
    """
    header = read_header(path)
    if not header.entries:
        raise UnreadableFile(f"{path} holds no tensors", expected="a model's weights")
    return StoredWeights(_stored(entry, path) for entry in header.entries)


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor in the file, by name, in memory. Raises ``UnreadableFile`` as above."""
    return dict(stored_safetensors(path))


def inspect_safetensors(path: Path) -> Contents:
    """What the file declares; only its header is read. Raises ``UnreadableFile``."""
    header = read_header(path)
    return Contents(
        source=str(path),
        kind="safetensors",
        size=path.stat().st_size,
        tensors=tuple(_declared(entry) for entry in header.entries),
        globals=(),
        trust="none",
        why="the format holds tensors and texts only",
        notes=_notes(header),
    )


def _declared(entry: HeaderEntry) -> TensorEntry:
    dtype = _TYPES.get(entry.dtype, entry.dtype)
    return TensorEntry(entry.name, dtype, entry.shape, entry.end - entry.begin)


def _notes(header: Header) -> tuple[str, ...]:
    return tuple(f"{quoted(key)}: {quoted(text)}" for key, text in header.metadata.items())


def _stored(entry: HeaderEntry, path: Path) -> StoredTensor:
    dtype = getattr(torch, _TYPES.get(entry.dtype, ""), None)
    if dtype is None:
        raise UnreadableFile(
            f"{path.name} holds {quoted(entry.name)} of the type {entry.dtype}",
            expected=f"a type that torch {torch.__version__} knows",
            next_step="convert it to bfloat16 or float32",
        )
    read = partial(read_tensor, path, entry.begin, dtype, entry.shape)
    return StoredTensor(entry.name, dtype, entry.shape, read, (path, entry.begin, entry.name))
