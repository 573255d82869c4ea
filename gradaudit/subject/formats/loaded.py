"""What a file turned out to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradaudit.errors import UnreadableFile
from gradaudit.records import NotMeasured, Recipe
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights, is_tensor
from gradaudit.telling import told

_NESTED = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Loaded:
    """A model, or the weights of one; exactly one of the two is given."""

    format: str
    model: nn.Module | None = None
    weights: Mapping[str, torch.Tensor] | None = None  # may be StoredWeights, read one at a time
    sample: Any = None  # the inputs a file carries, as (args, kwargs)
    loss: Callable[[Any, Any], torch.Tensor] | None = None  # the one that belongs to the model
    recipe: Recipe = field(default_factory=Recipe)  # what optimizer state beside the weights says
    notes: tuple[str, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()  # what the format hides


def classify(content: Any, path: Path, *, prefix: str = "") -> Loaded:
    """A pickled Module, a state dict, or a dict that holds either under a well-known key.

    Raises ``UnreadableFile`` for anything else, telling what was found.
    """
    if isinstance(content, nn.Module):
        return Loaded(f"{prefix}pickled module", model=_sound(content, path))
    if isinstance(content, Mapping):
        if is_state_dict(content):
            return Loaded(f"{prefix}state dict", weights=StoredWeights.of(tensors_of(content)))
        for key in _NESTED:
            value = content.get(key)
            if isinstance(value, nn.Module):
                return Loaded(f"{prefix}pickled module", model=_sound(value, path))
            if isinstance(value, Mapping) and is_state_dict(value):
                return Loaded(f"{prefix}state dict", weights=StoredWeights.of(tensors_of(value)))
    raise UnreadableFile(
        f"{path.name} holds no model",
        expected="a Module, a state dict, or a dict with one under "
        + ", ".join(f"'{key}'" for key in _NESTED),
        found=describe(content),
        next_step="a data sample is given with --data" if _is_data(content) else "",
    )


def _sound(model: nn.Module, path: Path) -> nn.Module:
    """``model``, if it hangs together: a pickle can hold modules without state, or in a circle."""
    try:
        model.apply(lambda module: None)
        states = [(p.shape, p.requires_grad) for p in model.parameters()]
        states += [(b.shape, b.requires_grad) for b in model.buffers()]
        _ = [module.training for module in model.modules()]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"the module in {path.name} is damaged", found=told(error), next_step="save it again"
        ) from None
    return model


def is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Whether ``content`` maps names to tensors (other entries, such as extra state, are few)."""
    tensors = sum(is_tensor(value) for value in content.values())
    nested = any(isinstance(value, Mapping) for value in content.values())
    return tensors > 0 and not nested and all(isinstance(key, str) for key in content)


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
        keys = ", ".join(repr(key) for key in list(content)[:5])
        return f"a {type(content).__name__} with " + (f"the keys {keys}" if keys else "no keys")
    if isinstance(content, (list, tuple)):
        return f"a {type(content).__name__} of {len(content)} items"
    return f"an object of type {type(content).__name__}"


def _is_data(content: Any) -> bool:
    if isinstance(content, (list, tuple)) and content:
        return all(is_tensor(item) for item in content)
    return is_tensor(content)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, over the names and bytes of the files in it."""
    digest = hashlib.sha256()
    if path.is_dir():
        # what else lies in the folder may be a pipe, or another project
        for item in sorted(item for item in path.iterdir() if item.is_file()):
            digest.update(f"{item.name} {file_digest(item)};".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
