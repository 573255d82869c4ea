"""Nets written by ``torch.export`` and ``torch.jit``, and what they held."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradaudit.subject.formats import open_file
from gradaudit.subject.formats.loaded import Loaded
from tests.kinds.graph_files import _unwarned as unwarned

WAYS = ("exported", "scripted", "traced")


def written(model: nn.Module, inputs: tuple[Any, ...], way: str, folder: Path) -> Path:
    """``model`` in a file, as ``way`` writes it."""
    path = folder / ("model.pt2" if way == "exported" else "model.pt")
    with unwarned():
        if way == "exported":
            torch.export.save(torch.export.export(model, inputs), path)
        elif way == "scripted":
            torch.jit.script(model).save(path)
        else:
            torch.jit.trace(model, inputs, check_trace=False).save(path)
    return path


def opened(path: Path, *, trust: bool = False) -> Loaded:
    """What gradaudit makes of it; warnings are errors here as in all tests."""
    with warnings.catch_warnings():
        return open_file(path, trust=trust)


def results(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Outputs, and gradients of every parameter by name, of a seeded run in training."""
    torch.manual_seed(3)
    made = [each for each in pytree.tree_leaves(model(*inputs)) if isinstance(each, Tensor)]
    parameters = dict(model.named_parameters())
    total = sum((each.float() ** 2).sum() for each in made)
    assert isinstance(total, Tensor)
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    named = dict(zip(parameters, gradients, strict=True))
    return [*made, *(torch.zeros(()) if g is None else g for _, g in sorted(named.items()))]


def changed(path: Path, records: Mapping[str, bytes | None]) -> Path:
    """The archive with records replaced, added or (``None``) left out, by name below its folder."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        held = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {**held, **records}.items():
            if content is not None:
                archive.writestr(f"{root}/{name}", content)
    path.write_bytes(stream.getvalue())
    return path


def record(path: Path, name: str) -> bytes:
    """One record of an archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}")
