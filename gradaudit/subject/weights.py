"""Files that hold only weights: into a built model, or audited by themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradaudit.errors import ModelError
from gradaudit.records import SubjectRow
from gradaudit.settings import Settings
from gradaudit.subject.code import call
from gradaudit.subject.formats import Loaded
from gradaudit.subject.formats.loaded import tensors_of
from gradaudit.subject.formats.stored_weights import StoredWeights
from gradaudit.subject.opened import Opened
from gradaudit.subject.sample import nothing


def load_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], path: Path, build: str
) -> None:
    """Put ``weights`` into ``model``; ``ModelError`` naming the first keys that do not fit."""
    own = model.state_dict()
    absent = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own]
    shapes = [
        f"{key} {list(weights[key].shape)} against {list(own[key].shape)}"
        for key in own
        if key in weights
        and isinstance(own[key], torch.Tensor)
        and not is_lazy(own[key])
        and weights[key].shape != own[key].shape
    ]
    faults = [
        f"{word} {len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for word, names in (
            ("not in the file", absent),
            ("not in the model", extra),
            ("of another shape", shapes),
        )
        if names
    ]
    if faults:
        raise ModelError(
            f"the weights in {path.name} do not fit what {build} builds",
            found=" | ".join(faults),
            next_step="build the model these weights were saved from",
        )
    call(model.load_state_dict, f"loading {path.name} into {build}", weights)


def weights_only(loaded: Loaded, digest: str, spec: str, settings: Settings) -> Opened:
    """The subject of a file without a model, saying what could not be measured and why."""
    weights = StoredWeights.of(tensors_of(loaded.weights or {}))
    hint = "the file holds only weights; --build file.py:name names the code of the model"
    row = SubjectRow(
        source=spec,
        format=loaded.format,
        digest=digest,
        parameters=sum(x.numel for x in weights.entries() if x.dtype.is_floating_point),
        modules=0,
        stages=0,
        name="",
    )
    empty = nothing(hint, next_step="")
    return Opened(
        model=None, weights=weights, batches=(), objective=None, recipe=settings.recipe,
        make_optimizer=None, row=row, sample=empty.row,
        notes=(f"Weights only: {hint}.", *loaded.notes),
        not_measured=(*empty.not_measured, *loaded.not_measured),
    )  # fmt: skip


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of parameters and buffers, in order."""
    digest = hashlib.sha256()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        if value.layout is torch.strided and value.device.type != "meta":
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
