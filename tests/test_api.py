"""The Python API: cheap to import, the model comes back bit for bit, the report is the contract."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradaudit
from tests.command import checked, python

QUICK = gradaudit.Settings(effort="quick", threads=1)


class Net(nn.Module):
    """Dropout, batch norm, an in-place activation, a frozen parameter, a buffer, a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.2)
        )
        self.head = nn.Linear(16, 3)
        self.head.bias.requires_grad_(False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen = 0
        self.body[0].register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.seen += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.body(x))


class Raising(Net):
    """Raises once the audit is under way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.calls >= 3:
            raise RuntimeError("out of patience")
        return super().forward(x)


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that an audit could leave changed."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "storage": {name: value.data_ptr() for name, value in model.state_dict().items()},
        "identity": {name: id(value) for name, value in model.named_parameters()},
        "gradients": {
            name: None if p.grad is None else (id(p.grad), p.grad.clone())
            for name, p in model.named_parameters()
        },
        "frozen": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in model.named_modules()
        },
        "seen": getattr(model, "seen", None),
    }


def random_state() -> tuple[Any, ...]:
    generator: Any = np.random.get_state()
    return random.getstate(), generator[1].tobytes(), generator[2:], torch.get_rng_state()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator)
    return list(zip(x.split(16), x[:, :3].argmax(1).split(16), strict=True))


def prepared(kind: type[nn.Module], *, training: bool) -> nn.Module:
    torch.manual_seed(3)
    model = kind().train(training)
    model.body[0].weight.grad = torch.randn_like(model.body[0].weight)  # type: ignore[index,union-attr]
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_model_comes_back_bit_identical(training: bool, effort: Any) -> None:
    model = prepared(Net, training=training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before, generators, threads = state_of(model), random_state(), torch.get_num_threads()
    settings = gradaudit.Settings(effort=effort, threads=1)
    report = gradaudit.audit(
        model, batches(), loss="cross_entropy", optimizer=optimizer, settings=settings
    )
    assert report.measurements.rehearsal is not None  # it did take steps
    assert same(before, state_of(model))
    assert same(generators, random_state())
    assert not optimizer.state
    assert torch.get_num_threads() == threads


def test_model_comes_back_when_forward_raises() -> None:
    model = prepared(Raising, training=True)
    before, generators = state_of(model), random_state()
    with pytest.raises(gradaudit.GradauditError, match="out of patience") as caught:
        gradaudit.audit(model, batches(), loss="cross_entropy", settings=QUICK)
    assert "\n" not in str(caught.value)
    assert same(before, state_of(model))
    assert same(generators, random_state())


def _square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - nn.functional.one_hot(target, 3)).square().mean()


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(None, "cross_entropy"), (nn.CrossEntropyLoss(), "cross_entropy"), (_square, "custom (_squa")],
)
@pytest.mark.parametrize(
    "optimizer", [None, lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)]
)
def test_report_is_the_contract(
    loss: Any, kind: str, optimizer: Callable[[Any], torch.optim.Optimizer] | None
) -> None:
    model = prepared(Net, training=True)
    report = gradaudit.audit(model, batches(), loss=loss, optimizer=optimizer, settings=QUICK)
    found = checked(json.dumps(report.to_dict(), allow_nan=False))
    assert found["schema"] == "gradaudit.report/1"
    assert found["subject"]["source"] == "Net"
    assert found["measurements"]["loss"]["kind"].startswith(kind)
    assert found["recipe"]["optimizer"] == (None if optimizer is None else "sgd")
    assert found["recipe"]["momentum"] == (None if optimizer is None else 0.9)


def test_gains_of_all_stages_multiply_to_the_total() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(24, 24), nn.Tanh())]
    report = gradaudit.audit(nn.Sequential(*layers, nn.Linear(24, 3)), torch.randn(32, 24))
    stages, trunk = report.measurements.stages, report.measurements.trunk
    assert [stage.role for stage in stages] == ["inlet", *["interior"] * 5, "head"]
    gains = [stage.backward_gain.value for stage in stages[1:] if stage.backward_gain is not None]
    assert len(gains) == 6
    assert trunk.total_growth_log10 is not None
    assert sum(map(math.log10, gains)) == pytest.approx(trunk.total_growth_log10.value, abs=1e-6)


def test_same_report_twice() -> None:
    model = prepared(Net, training=True)
    one, two = (gradaudit.audit(model, batches(), settings=QUICK).to_dict() for _ in range(2))
    for report in (one, two):
        del report["environment"]["times"]
    assert one == two


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (gradaudit.Settings(threads=0), "threads"),
        (gradaudit.Settings(recipe=gradaudit.Recipe(lr=-1.0)), "wrong lr"),
        (gradaudit.Settings(recipe=gradaudit.Recipe(optimizer="adamm")), "no optimizer 'adamm'"),
        (gradaudit.Settings(loss="mes"), "no loss called 'mes'"),
    ],
)
def test_settings_that_are_none(settings: gradaudit.Settings, message: str) -> None:
    with pytest.raises(gradaudit.GradauditError, match=message):
        gradaudit.audit(nn.Linear(2, 2), torch.randn(4, 2), settings=settings)


CHEAP = """
import sys, time
started = time.perf_counter()
{what}
heavy = sorted({{"torch", "numpy", "matplotlib", "jinja2", "networkx"}} & set(sys.modules))
print(heavy, time.perf_counter() - started)
"""


@pytest.mark.parametrize(
    "what",
    [
        "import gradaudit",
        "from gradaudit import cli; cli._guarded(lambda: cli.cli.main(['--help']))",
        "from gradaudit import cli; cli._guarded(lambda: cli.cli.main(['audit', '--help']))",
        "from gradaudit import cli; cli._guarded(lambda: cli.cli.main(['rules']))",
        "from gradaudit import Settings, Recipe, GradauditError, Report",
    ],
)
def test_torch_is_not_imported_needlessly(what: str, tmp_path: Path) -> None:
    what = f"try:\n    {what}\nexcept SystemExit:\n    pass"
    ran = python("-c", CHEAP.format(what=what), cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1].startswith("[] ")
