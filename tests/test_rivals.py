"""What the field's tools say of recipes that are known to train, or not to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.records import Recipe
from tests.benchmarks._start import Run, probe
from tests.benchmarks.rivals import RIVALS
from tests.corpus import training
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.tune._common import gain as scaled
from tests.corpus.tune.mlp_tanh import SPIRAL, cases, net, xavier

TANH = {case.name.partition("/")[2]: case for case in cases()}
ADAM = Recipe("adam", lr=2e-3, steps=30)
OURS = [name for name in RIVALS if name not in ("torchtest2", "torchtest2-strict", "syndset")]


def spiral(recipe: Recipe = ADAM, gain: float | None = None, depth: int = 3) -> Case:
    start = xavier if gain is None else scaled(gain)
    return Case("test/spiral", SPIRAL, lambda: net(depth, 64, start), recipe)


def relu(bias: float = 0.0, scale: float = 1.0, recipe: Recipe = ADAM) -> Case:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(inplace=True), nn.Linear(64, 3))
        with torch.no_grad():
            model[0].bias += bias
            for parameter in model.parameters():
                parameter.mul_(scale)
        return model

    return Case("test/relu", SPIRAL, build, recipe)


def sigmoid(depth: int) -> Case:
    def build() -> nn.Module:
        model = net(depth, 64, None)
        return nn.Sequential(*(nn.Sigmoid() if isinstance(m, nn.Tanh) else m for m in model))

    return Case("test/sigmoid", SPIRAL, build, ADAM)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.cell = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: Any, weight: Any) -> Any:
        return self.head(self.cell(self.table(tokens))[0]) * weight


def reading(wrap: Callable[[Any, Any], Any]) -> Case:
    def draw(generator: torch.Generator) -> Pair:
        tokens = torch.randint(11, (4, 6), generator=generator)
        return wrap(tokens, torch.ones(4, 1, 1)), tokens

    return Case("test/reader", Task("reader", "cross_entropy", drawn(draw)), Reader, ADAM)


@pytest.mark.parametrize(
    ("name", "trains"), [("glorot-3-adam", True), ("adam-3", False), ("sgd-1e-6", False)]
)
def test_a_rehearsal_tells_a_rate_that_is_far_off(name: str, trains: bool) -> None:
    assert RIVALS["rehearsal-30"](TANH[name]) is trains


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("sgd", lr=0.1, momentum=0.9, clip_norm=0.5, warmup=8, steps=12),
        Recipe("adamw", lr=1e-2, weight_decay=0.1, precision="bf16", steps=12),
        Recipe("adam", lr=1e-2, precision="fp16", steps=12),
    ],
)
def test_the_first_steps_are_those_of_the_training(recipe: Recipe) -> None:
    case = spiral(recipe)
    run = Run(case)
    mine = [run.step(batch) for batch in case.task.take(0, 12)]
    assert mine == pytest.approx(list(training.train(case, 0).curve), rel=1e-6)


def test_the_record_of_a_start() -> None:
    case = spiral(Recipe("sgd", lr=0.5, steps=1))
    start = probe(case)
    model, (x, y) = case.model(0), case.sample()[0]
    case.task.measure(model(x), y).backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    assert start.gradients.keys() == wanted.keys()
    torch.testing.assert_close(dict(start.gradients), wanted)
    torch.testing.assert_close(start.updates["0.weight"], -0.5 * wanted["0.weight"])
    total = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert start.norm == pytest.approx(float(total), rel=1e-5)
    assert (len(start.flow), len(start.squashed), len(start.rectified)) == (4, 3, 0)


@pytest.mark.parametrize("wrap", [lambda t, w: (t, w), lambda t, w: {"tokens": t, "weight": w}])
def test_every_form_of_inputs_gets_a_verdict(wrap: Callable[[Any, Any], Any]) -> None:
    case = reading(wrap)
    assert {RIVALS[name](case) for name in OURS} <= {True, False}
    assert probe(case).tables == {"table.weight"}


@pytest.mark.parametrize("name", [name for name in OURS if name != "umlaut"])
def test_a_sound_start_rings_no_alarm(name: str) -> None:
    assert RIVALS[name](TANH["glorot-3-adam"]) is True


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("sagemaker", spiral(gain=0.01, depth=8)),  # gradients below 1e-7
        ("sagemaker", spiral(Recipe("adam", lr=30.0))),  # the update is more than 10 weights
        ("sagemaker", spiral(gain=60.0)),  # tanhs beyond 9.4999
        ("sagemaker", relu(bias=-30.0)),  # dead
        ("autotrainer", sigmoid(8)),  # the first layer's gradient is 1e-3 of the last's
        ("autotrainer", relu(bias=-30.0)),
        ("thedeepchecker", spiral(gain=0.1, depth=8)),
        ("thedeepchecker", spiral(Recipe("sgd", lr=1e-6))),
        ("thedeepchecker", relu(bias=-30.0)),
        ("umlaut", spiral()),  # inputs beyond 1
        ("torch-audit", relu(scale=1e3)),
        ("torchmortem", spiral(gain=0.1, depth=8)),
        ("torchmortem", spiral(Recipe("adam", lr=1.0))),
    ],
)
def test_thresholds_ring(name: str, case: Case) -> None:
    assert RIVALS[name](case) is False


def test_what_is_not_finite_alarms_all() -> None:
    case = relu(scale=1e25)
    assert not probe(case).finite
    assert [name for name in OURS if RIVALS[name](case) is not False] == []


def test_torchtest2_fails_where_a_batch_cannot_be_fitted() -> None:
    pytest.importorskip("torchtest2")
    assert RIVALS["torchtest2"](TANH["default-3-momentum"]) is True
    assert RIVALS["torchtest2-strict"](TANH["default-3-momentum"]) is True
    assert RIVALS["torchtest2"](TANH["sgd-1e-6"]) is False
    assert RIVALS["torchtest2-strict"](TANH["adam-3"]) is False


def test_syndset_sees_the_model_and_not_the_rate() -> None:
    pytest.importorskip("syndset")
    assert RIVALS["syndset"](TANH["adam-3"]) is True
    assert RIVALS["syndset"](relu(scale=1e25)) is False


def test_a_tool_that_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchtest2", "syndset"):
        monkeypatch.setitem(sys.modules, name, None)
        assert RIVALS[name](spiral()) is None
