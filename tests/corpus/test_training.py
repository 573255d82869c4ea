"""The corpus's training is the loop that its user would write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task, drawn
from tests.corpus.training import Change, train

STEPS = 60


def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 3, generator=generator)
    return x, 100 + 20 * x.sum(1, keepdim=True).sin()


TASK = Task("sines", "mse", drawn(draw))


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def case(recipe: Recipe, task: Task = TASK) -> Case:
    return Case("test/sines", task, build, recipe)


def data(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield draw(generator)


def final(losses: list[float]) -> float:
    return sum(losses[-20:]) / 20


def test_sgd_with_momentum_clipping_and_warm_up_is_the_hand_written_loop() -> None:
    recipe = Recipe("sgd", lr=2e-3, momentum=0.8, clip_norm=30.0, warmup=10, steps=STEPS)
    torch.manual_seed(3)
    model = build().train()
    torch.manual_seed(103)
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.8)
    losses, clipped, stream = [], 0, data(3)
    for step in range(STEPS):
        x, y = next(stream)
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 10)
        loss = F.mse_loss(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        clipped += float(nn.utils.clip_grad_norm_(model.parameters(), 30.0)) > 30
        optimizer.step()
    outcome = train(case(recipe), 3)
    assert clipped > 0
    assert (outcome.first, outcome.final) == (losses[0], pytest.approx(final(losses), rel=1e-12))
    assert outcome.broke_at is None
    assert outcome.curve == pytest.approx(
        [sum(losses[i : i + 3]) / 3 for i in range(0, STEPS, 3)], rel=1e-12
    )


def test_a_written_cure_is_the_loop_with_its_numbers() -> None:
    """Over the recipe's own; losses stay in the task's units where the target is scaled."""
    torch.manual_seed(0)
    start = {name: torch.randn_like(value) for name, value in build().state_dict().items()}
    written = {
        "optimizer": "adam",
        "lr": 0.02,
        "betas": (0.8, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.01,
        "momentum": None,
        "clip_norm": None,
        "warmup_steps": 5,
        "schedule": "cosine",
        "input": {"shift": 0.5, "scale": 2.0},
        "target": {"shift": 100.0, "scale": 20.0},
    }
    model = build().train()
    model.load_state_dict(start)
    torch.manual_seed(101)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01
    )
    losses, stream = [], data(1)
    for step in range(STEPS):
        x, y = next(stream)
        share = min(1, (step + 1) / 5) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.param_groups[0]["lr"] = 0.02 * share
        output = model((x - 0.5) / 2)
        losses.append(F.mse_loss(output * 20 + 100, y).item())
        optimizer.zero_grad()
        F.mse_loss(output, (y - 100) / 20).backward()
        optimizer.step()
    change = Change(start, written)
    outcome = train(case(Recipe("sgd", lr=9.0, momentum=0.9, steps=STEPS)), 1, change)
    assert outcome.first == pytest.approx(losses[0], rel=1e-6)
    assert outcome.final == pytest.approx(final(losses), rel=1e-6)
    assert outcome.final < outcome.first


def test_what_breaks_is_not_trained_on() -> None:
    outcome = train(case(Recipe("sgd", lr=1e3, steps=STEPS)), 0)
    assert outcome.final is None
    assert outcome.broke_at is not None
    assert 0 < outcome.broke_at < STEPS
    assert all(math.isfinite(loss) for loss in outcome.curve)
    assert len(outcome.curve) == math.ceil(outcome.broke_at / 3)


def test_a_loss_that_is_never_finite_has_no_curve() -> None:
    def never(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = draw(generator)
        return x, y * math.nan

    outcome = train(case(Recipe("sgd", lr=1e-3, steps=STEPS), Task("nan", "mse", drawn(never))), 0)
    assert (outcome.first, outcome.final, outcome.broke_at, outcome.curve) == (
        *(math.inf, None, 0, ()),
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_it_comes_to_much_the_same(precision: str) -> None:
    def small(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 3, generator=generator)
        return x, x.sum(1, keepdim=True).sin()

    task = Task("small", "mse", drawn(small))
    given: dict[str, Any] = {"lr": 0.02, "steps": 3 * STEPS}
    full, half = (
        train(case(Recipe("adam", **given, precision=p), task), 0) for p in (None, precision)
    )
    assert full.final is not None
    assert half.final is not None
    assert half.final != full.final
    assert half.final == pytest.approx(full.final, abs=0.05)
    assert half.final < 0.7 * half.first


def test_the_seed_draws_start_data_and_dropout() -> None:
    recipe = Recipe("adam", lr=0.05, steps=STEPS)
    assert train(case(recipe), 0) == train(case(recipe), 0)
    assert train(case(recipe), 0).first != train(case(recipe), 1).first
