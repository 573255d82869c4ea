"""Files that hold only weights: into a built model, or audited by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradaudit.errors import ModelError
from gradaudit.records import SubjectRow
from gradaudit.settings import Settings
from gradaudit.subject.code import call
from gradaudit.subject.formats import Loaded
from gradaudit.subject.formats.loaded import EXTRA, tensors_of
from gradaudit.subject.formats.stored_weights import StoredWeights
from gradaudit.subject.opened import Opened
from gradaudit.subject.sample import nothing
from gradaudit.subject.weight_names import by_own_names
from gradaudit.telling import listed, quoted

_LONGEST = 120


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, build: str
) -> tuple[str, ...]:
    """Put ``weights`` into ``model``, and tell which names they had instead of its own.

    Raises ``ModelError`` naming the first keys that do not fit.
    """
    own = {name: value for name, value in model.state_dict().items() if not _is_extra(name)}
    found, notes = by_own_names(list(own), StoredWeights.of(tensors_of(weights)))
    stored = {_place(own[key]) for key in own if key in found}
    # of tied weights a file may hold one name only
    absent = [key for key in own if key not in found and _place(own[key]) not in stored]
    extra = [key for key in found if key not in own]
    shapes = [
        f"{key} {list(found.entry(key).shape)} against {list(own[key].shape)}"
        for key in own
        if key in found
        and isinstance(own[key], Tensor)
        and not is_lazy(own[key])
        and found.entry(key).shape != tuple(own[key].shape)
    ]
    faults = [
        f"{word} {len(names)}: {listed(list(map(_plain, names)))}"
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
    label = f"loading {path.name} into {build}"
    call(lambda: model.load_state_dict(dict(found), strict=False), label)
    return notes


def _place(value: Any) -> Hashable:
    """The same for tensors that are one; its own for one without values."""
    if not isinstance(value, Tensor) or is_lazy(value) or value.is_meta or not value.numel():
        return id(value)
    if value.layout is not torch.strided:
        return id(value)
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _is_extra(name: str) -> bool:
    return name.rpartition(".")[2] == EXTRA  # a module's own, no weights


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) <= _LONGEST else quoted(name)


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
        not_measured=(*(replace(gap, why=hint) for gap in empty.not_measured),
                      *loaded.not_measured), trained=loaded.trained,
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
