"""What a file holds and asks for, as read without opening it (``gradaudit inspect``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# "allowed": on the exact list of what may be read without trust; "unlisted": not on it;
# "dangerous": known to run commands, code or network requests when a pickle calls it.
Standing = Literal["allowed", "unlisted", "dangerous"]
# "none": opened without --trust; "needed": only with it; "never": not opened at all.
Trust = Literal["none", "needed", "never"]


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as the file declares it."""

    name: str
    dtype: str  # "float32", "bfloat16", ...
    shape: tuple[int, ...]
    size: int  # bytes stored


@dataclass(frozen=True)
class GlobalEntry:
    """Something that the file asks to be imported."""

    name: str  # "module.name"
    standing: Standing


@dataclass(frozen=True)
class Contents:
    """One file or folder, described."""

    source: str  # as the user named it
    kind: str  # "torch zip", "safetensors", "torchscript", ...
    size: int  # bytes on disk
    tensors: tuple[TensorEntry, ...]
    globals: tuple[GlobalEntry, ...]
    trust: Trust
    why: str  # why trust is, or is not, needed
    notes: tuple[str, ...] = ()
