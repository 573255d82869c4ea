"""What is told of a PyTorch file that is not opened."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.subject.formats import inspect_file


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


class Mine(nn.Linear):
    pass


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_names_types_and_sizes(folder: Path, old: bool) -> None:
    weights = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).half().state_dict()
    torch.save(
        {"model": weights, "list": [torch.ones(3)]}, "m.pt", _use_new_zipfile_serialization=not old
    )
    found = inspect_file(Path("m.pt"))
    assert found.kind == ("torch legacy" if old else "torch zip")
    assert (found.trust, found.size) == ("none", Path("m.pt").stat().st_size)
    seen = {entry.name: (entry.dtype, entry.shape, entry.size) for entry in found.tensors}
    assert seen["model.0.weight"] == ("float16", (2, 4), 16)
    assert seen["model.1.num_batches_tracked"] == ("int64", (), 8)
    assert seen["list.0"] == ("float32", (3,), 12)
    assert len(seen) == len(weights) + 1


def test_modules_have_the_names_of_their_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Sequential(nn.BatchNorm1d(2)))
    torch.save({"model": model, "epoch": 1}, "m.pt")
    found = inspect_file(Path("m.pt"))
    assert found.trust == "none"
    assert {entry.name for entry in found.tensors} == {
        f"model.{name}" for name in model.state_dict()
    }
    standings = {each.name: each.standing for each in found.globals}
    assert standings["torch.nn.modules.linear.Linear"] == "allowed"


def test_what_needs_trust(folder: Path) -> None:
    torch.save({"model": Mine(2, 2), "x": Bomb()}, "m.pt")
    found = inspect_file(Path("m.pt"))
    assert found.trust == "needed"
    standings = {each.name: each.standing for each in found.globals}
    assert standings[f"{__name__}.Mine"] == "unlisted"
    assert standings["posix.system"] == "dangerous"
    assert found.why == "it asks for what no training code writes; do not give it"
    assert {entry.name for entry in found.tensors} == {"model.weight", "model.bias"}
    assert not (folder / "exploded").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(nn.Linear(2, 2), "m.pt", _use_new_zipfile_serialization=False)
    assert inspect_file(Path("m.pt")).trust == "needed"


def test_tied_and_hidden_tensors() -> None:
    weight = torch.ones(2, 2)
    hidden = nn.Parameter(torch.ones(3))
    hidden.note = "with state"  # pickled by a call that the reader does not follow
    torch.save({"a": weight, "b": weight, "c": hidden}, "m.pt")
    found = inspect_file(Path("m.pt"))
    assert [entry.name for entry in found.tensors] == ["a", "b"]


@pytest.mark.usefixtures("folder")
def test_what_the_file_is_is_told() -> None:
    weights = nn.Linear(2, 2).state_dict()
    for content, notes in (
        (nn.Linear(2, 2), ("a pickled 'torch.nn.modules.linear.Linear'",)),
        ({"epoch": 3, "model": weights}, ("its keys: 'epoch', 'model'",)),
        (weights, ()),
    ):
        torch.save(content, "m.pt")
        assert inspect_file(Path("m.pt")).notes == notes
