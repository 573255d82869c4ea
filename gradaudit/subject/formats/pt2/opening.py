"""From a ``.pt2`` archive to a module that can be hooked, trained and saved."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.declared import Declared
from gradaudit.records import NotMeasured
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.subject.formats.pt2.archive import checked_archive
from gradaudit.subject.formats.pt2.parts import ExportedProgram, fixed_modes
from gradaudit.subject.formats.pt2.rebuilt import rebuilt
from gradaudit.telling import listed, told


def load_exported(path: Path, *, trust: bool, device: str = "cpu") -> Loaded:
    """The unflattened, hookable module, with the example inputs it was exported with.

    Without ``trust`` torch is handed a copy made of nothing but what was checked. Raises
    ``RefusedFile`` naming what is beyond the exact lists; ``UnreadableFile`` for a damaged file.
    """
    source: Any = path if trust else checked_archive(path, device).archive
    with _quietly():
        try:
            program = torch.export.load(source)
            model = rebuilt(torch.export.unflatten(program))
        except Exception as error:  # torch raises whatever its reader met
            raise UnreadableFile(
                f"{path.name} cannot be read by torch.export.load", found=told(error)
            ) from None
    model.declared = _declared(program, model.signature.names)
    return Loaded(
        "pt2",
        model=model,
        sample=program.example_inputs,
        notes=_told(model),
        not_measured=_hidden(model),
    )


def _declared(
    program: torch.export.ExportedProgram, names: tuple[str, ...]
) -> tuple[Declared, ...]:
    """What the program says of its inputs, unless they are nested."""
    inputs = program.graph_signature.user_inputs
    if len(names) != len(inputs):
        return ()
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return tuple(
        _declared_as(name, values.get(each) if isinstance(each, str) else None)
        for name, each in zip(names, inputs, strict=True)
    )


def _declared_as(name: str, value: Any) -> Declared:
    if not isinstance(value, torch.Tensor):
        return Declared(name, None, None)
    sizes = (size if isinstance(size, int) else str(size) for size in value.shape)
    return Declared(name, value.dtype, tuple(sizes))


def _told(model: ExportedProgram) -> tuple[str, ...]:
    kept = sum(type(m).__module__.startswith("torch.nn.modules.") for m in model.modules())
    return (
        f"An exported program: {kept} of torch's own layers were found in it again; whatever its "
        "modules computed besides is as it was exported.",
    )


def _hidden(model: ExportedProgram) -> tuple[NotMeasured, ...]:
    """What stays as the export has it, whether the model trains or not."""
    fixed = sorted(fixed_modes(model))
    if not fixed:
        return ()
    return (
        NotMeasured(
            "dropout and batch norm in training",
            "the exported program",
            f"{listed(fixed)} computes as it was exported; export in training mode to measure it",
        ),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warnings, which say nothing the user can act on here."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
