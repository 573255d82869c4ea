"""Ultralytics' models, opened in a process of their own, where the package is installed."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.command import python, run
from tests.kinds.ultralytics_checkpoint import environment, images, written

CHECKS = """\
import torch

from gradaudit.settings import Settings
from gradaudit.subject import open_subject

torch.set_num_threads(1)
saved = open_subject("saved.pt", Settings(trust=True))
assert saved.sample.source == "made up" and saved.sample.target == "made up", saved.sample
assert saved.batches[0].inputs[0].shape == (4, 3, 160, 160), saved.batches[0].inputs[0].shape
assert all(p.dtype == torch.float32 for p in saved.model.parameters())

trained = open_subject("trained.pt", Settings(trust=True, data="images.pt"))
frozen = [name for name, p in trained.model.named_parameters() if not p.requires_grad]
assert frozen == ["model.22.dfl.conv.weight"], frozen
notes = " ".join(trained.notes)
assert "half precision, cast to float" in notes and "stored frozen; trainable here" in notes, notes
assert trained.sample.source == trained.sample.target == "given", trained.sample

# the package's own way to the same number, dict in and loss out
raw = torch.load("images.pt")
batch = {**raw, "img": raw["img"].float() / 255}
model = trained.model.train()
theirs = open_subject("trained.pt", Settings(trust=True)).model.train()
from ultralytics.cfg import get_cfg
theirs.args = get_cfg(overrides=dict(theirs.args))
ours = trained.objective(model(batch["img"]), trained.batches[0])
expected = theirs(batch)[0].sum()
assert torch.isclose(ours, expected, rtol=1e-5), (ours, expected)
ours.backward()
assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
print("checked")
"""


def test_ultralytics(folder: Path) -> None:
    written(folder)
    torch.save(images(), "images.pt")
    before = set(folder.iterdir())
    ran = python("-W", "ignore", "-c", CHECKS, cwd=folder, env=environment(folder))
    assert ran.out.endswith("checked\n"), ran.err
    assert set(folder.iterdir()) == before
    # without the package, and without trust
    ran = run("trained.pt", "--trust", cwd=folder)
    assert ran.code == 2
    assert "needs code that is not here" in ran.err
    assert "install ultralytics" in ran.err
    ran = run("trained.pt", cwd=folder)
    assert ran.code == 2
    assert "ultralytics.nn.tasks.DetectionModel" in ran.err
    assert "if you made this file, add --trust" in " ".join(ran.err.split())
