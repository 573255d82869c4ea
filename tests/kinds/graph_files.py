"""What ``torch.export`` and ``torch.jit`` write."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tests.kinds.kind import Kind, data, net


def exported(folder: Path) -> Path:
    rows = torch.export.Dim("rows", min=2, max=4096)
    _export(folder, dynamic_shapes=({0: rows},))
    return folder / "model.pt2"


def exported_for_one_size(folder: Path) -> Path:
    _export(folder)
    return folder / "model.pt2"


def scripted(folder: Path) -> Path:
    with _unwarned():
        torch.jit.script(net()).save(folder / "model.pt")
    return folder / "model.pt"


def traced(folder: Path) -> Path:
    with _unwarned():
        torch.jit.trace(net(), data()["x"][:4]).save(folder / "model.pt")
    return folder / "model.pt"


def frozen(folder: Path) -> Path:
    with _unwarned():
        torch.jit.freeze(torch.jit.script(net().eval())).save(folder / "model.pt")
    return folder / "model.pt"


def _export(folder: Path, **options: Any) -> None:
    with _unwarned():
        program = torch.export.export(net(), (data()["x"][:16],), **options)
        torch.export.save(program, folder / "model.pt2")


class _unwarned(warnings.catch_warnings):  # noqa: N801 - used as the function it extends
    """torch warns of the age of TorchScript, which is what is tested here."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


KINDS = (
    Kind("`torch.export` (`.pt2`)", exported, "pt2", data=data, order=10),
    Kind("`.pt2` of one batch size", exported_for_one_size, "pt2", data=data, order=11),
    Kind("TorchScript, scripted", scripted, "torchscript", data=data, order=12),
    Kind("TorchScript, traced", traced, "torchscript", data=data, order=13),
    Kind("TorchScript, frozen", frozen, "torchscript", data=data, order=14),
)
