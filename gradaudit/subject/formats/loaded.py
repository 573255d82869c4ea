"""What a file turned out to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradaudit.errors import GradauditError, UnreadableFile
from gradaudit.records import NotMeasured, Recipe
from gradaudit.subject.formats.members import member
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights, is_tensor
from gradaudit.telling import quoted

EXTRA = "_extra_state"  # a module's own, of whatever kind


@dataclass(frozen=True)
class Loaded:
    """A model, or the weights of one; exactly one of the two is given."""

    format: str
    model: nn.Module | None = None
    weights: Mapping[str, torch.Tensor] | None = None  # may be StoredWeights, read one at a time
    sample: Any = None  # the inputs a file carries, as (args, kwargs)
    recipe: Recipe = field(default_factory=Recipe)  # what optimizer state beside the weights says
    trained: str = ""  # what beside the weights says that they are no start
    notes: tuple[str, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()  # what the format hides


def is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Whether ``content`` maps names to tensors (other entries, such as extra state, are few)."""
    tensors = sum(is_tensor(value) for value in content.values())
    if not tensors or not all(isinstance(key, str) for key in content):
        return False
    return not any(
        isinstance(value, (Mapping, nn.Module)) and not key.endswith(EXTRA)
        for key, value in content.items()
    )


def tensors_of(content: Mapping[str, Any]) -> Mapping[str, torch.Tensor | StoredTensor]:
    """What of a state dict is tensors; other entries are extra state of modules."""
    if isinstance(content, StoredWeights):
        return content
    return {name: value for name, value in content.items() if is_tensor(value)}


def describe(content: Any) -> str:
    """One short phrase on what ``content`` is."""
    if is_tensor(content):
        return f"a tensor of shape {list(content.shape)}"
    if isinstance(content, Mapping):
        keys = ", ".join(quoted(key) for key in list(content)[:5])
        return f"a {type(content).__name__} with " + (f"the keys {keys}" if keys else "no keys")
    if isinstance(content, (list, tuple)):
        return f"a {type(content).__name__} of {len(content)} items"
    return f"an object of type {type(content).__name__}"


def is_data(content: Any) -> bool:
    """Whether ``content`` looks like a sample: a tensor or several."""
    if isinstance(content, (list, tuple)) and content:
        return all(is_tensor(item) for item in content)
    return is_tensor(content)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, over the names and bytes of the files in it.

    Links that lead out of a folder, and what is no regular file, are left out. Raises
    ``UnreadableFile`` for a file that cannot be read.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for name in sorted(item.name for item in path.iterdir()):
            try:
                real = member(path, name)
            except GradauditError:  # a pipe, a link to elsewhere, a folder
                continue
            digest.update(f"{name} {file_digest(real)};".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UnreadableFile(
            f"{quoted(path.name)} cannot be read", found=error.strerror or str(error)
        ) from None
    return digest.hexdigest()
