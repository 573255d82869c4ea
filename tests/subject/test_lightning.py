"""Lightning's checkpoints, with the hyperparameters people keep in them."""

from __future__ import annotations

import argparse
import datetime
import enum
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from gradaudit.errors import RefusedFile
from gradaudit.records import Recipe
from tests.kinds.kind import CODE
from tests.kinds.lightning_checkpoint import lightning_file

USUAL = {
    "args": argparse.Namespace(lr=1e-3, root=Path("/data"), layers=[1, 2]),
    "np": [np.float64(3), np.int64(2), np.arange(3)],
    "when": datetime.datetime(2026, 1, 2),
    "span": datetime.timedelta(hours=1),
    "make": functools.partial(torch.nn.functional.relu, inplace=False),
    "optimizer": torch.optim.Adam,
    "device": torch.device("cpu"),
    "dtype": torch.float32,
    "names": {"a", "b"},
}


class Colour(enum.Enum):
    RED = 1


def test_the_usual_hyperparameters_need_no_trust(opened, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("pytorch_lightning", reason="Lightning is not installed")
        from pytorch_lightning.utilities.parsing import AttributeDict
    weights = lightning_file(folder / "m.ckpt", {**USUAL, "more": AttributeDict(a=1)}, batches=3)
    Path("net.py").write_text(CODE)
    found = opened("m.ckpt")
    assert set(found.weights) == {f"net.{name}" for name in weights}
    # the schedule has halved the rate since
    assert found.recipe == Recipe("adamw", 1e-3, None, (0.9, 0.999), 1e-8, 0.05)
    assert "(its initial_lr; a schedule had it at 0.0005" in "".join(found.notes)
    assert found.trained == "the file says epoch 1"
    model = opened("m.ckpt", build="net.py:build").model
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)


def test_omegaconf(opened, folder: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf", reason="OmegaConf is not installed")
    config = omegaconf.OmegaConf.create({"a": 1, "b": [1, {"c": "x", "d": None}], "e": "${a}"})
    lightning_file(folder / "m.ckpt", {"config": config, "list": config.b})
    assert len(opened("m.ckpt").weights) == 22


def test_classes_of_ones_own_need_trust(line, opened, folder: Path) -> None:
    lightning_file(folder / "m.ckpt", {"colour": Colour.RED})
    assert f"it needs {__name__}.Colour; if you made" in line(RefusedFile, "m.ckpt")
    assert len(opened("m.ckpt", trust=True).weights) == 22
