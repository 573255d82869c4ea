"""What ``torch.export``, ``torch.jit`` and ``torch.onnx`` write."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from tests.kinds.kind import Kind, data, net


def exported(folder: Path) -> Path:
    rows = torch.export.Dim("rows", min=2, max=4096)
    with _unwarned():
        program = torch.export.export(net(), (data()["x"][:16],), dynamic_shapes=({0: rows},))
        torch.export.save(program, folder / "model.pt2")
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


def onnx(folder: Path) -> Path:
    with _unwarned():
        torch.onnx.export(
            net(), (data()["x"][:4],), str(folder / "model.onnx"), dynamo=False,
            input_names=["x"], dynamic_axes={"x": {0: "rows"}},
            training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
        )  # fmt: skip
    return folder / "model.onnx"


class _unwarned(warnings.catch_warnings):  # noqa: N801 - used as the function it extends
    """torch warns of the age of TorchScript, which is what is tested here."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


KINDS = (
    Kind("`torch.export` (`.pt2`)", exported, "pt2", data=data, order=15),
    Kind("TorchScript, scripted", scripted, "torchscript", data=data, order=16),
    Kind("TorchScript, traced", traced, "torchscript", data=data, order=17),
    Kind("TorchScript, frozen", frozen, "torchscript", data=data, order=18),
    Kind("ONNX", onnx, "onnx", data=data, order=40),
)
