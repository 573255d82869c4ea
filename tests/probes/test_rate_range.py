"""The range test against losses whose edge is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes._curve import smoothed
from gradaudit.probes.rate_range import (
    HIGHEST,
    has_left,
    last_on_course,
    measure_rate_range,
    steepest_rate,
)
from gradaudit.records import RateRange, Recipe
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened
from tests.probes.lossy import Loss, mlp, opened, regression

STANDARD, THOROUGH, QUICK = (Settings(effort=e) for e in ("standard", "thorough", "quick"))


def ranged(subject: Opened, settings: Settings = STANDARD) -> RateRange:
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        found = measure_rate_range(subject, settings).rate_range
    assert found is not None
    return found


class Quadratic(nn.Module):
    """A sum of squares of given curvature: descent is stable below 2 / curvature."""

    def __init__(self, curvature: float, noise: float = 0.0) -> None:
        super().__init__()
        self.weight, self.curvature = nn.Parameter(torch.ones(8)), curvature
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        jitter = 1 + self.noise * torch.randn(())
        return 0.5 * self.curvature * self.weight.square().sum() * jitter + x.sum() * 0


VALUE = Loss(lambda output, _: output)


@pytest.mark.parametrize("curvature", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("settings", [STANDARD, THOROUGH])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_ceiling_lies_within_a_factor_of_the_grid_of_the_edge(
    curvature: float, settings: Settings, noise: float
) -> None:
    torch.manual_seed(0)
    subject = opened(
        Quadratic(curvature, noise), [(torch.ones(1), None)], VALUE, recipe=Recipe("sgd")
    )
    found = ranged(subject, settings)
    grid = found.rates[1] / found.rates[0]
    assert found.ceiling is not None
    # Without noise the step just below the edge is the last to help: (1 - rate x curvature)^2,
    # the factor it puts on the loss, is at most the 10% above one that still counts as on course.
    slack = grid**2 if noise else 1.025
    assert 2 / curvature / grid / slack <= found.ceiling <= 2 / curvature * slack
    assert found.steepest is not None
    assert found.steepest <= found.ceiling


def test_a_loss_that_keeps_its_course_has_no_ceiling_and_a_reason() -> None:
    subject = opened(Quadratic(1e-3), [(torch.ones(1), None)], VALUE, recipe=Recipe("sgd"))
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        result = measure_rate_range(subject, STANDARD)
    assert result.rate_range is not None
    assert result.rate_range.ceiling is None
    assert result.rate_range.rates[-1] == pytest.approx(HIGHEST)
    assert [n.what for n in result.not_measured] == ["learning-rate ceiling"]


def test_a_loss_that_leaves_at_once_has_no_ceiling_and_a_reason() -> None:
    subject = opened(Quadratic(1e12), [(torch.ones(1), None)], VALUE, recipe=Recipe("sgd"))
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        result = measure_rate_range(subject, STANDARD)
    assert result.rate_range is not None
    assert result.rate_range.ceiling is None
    assert result.rate_range.steepest is None
    assert "at once" in result.not_measured[0].why


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", None])
def test_the_best_rate_of_a_real_net_is_found_and_the_model_put_back(
    optimizer: str | None,
) -> None:
    torch.manual_seed(1)
    model = mlp().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    subject = opened(model, regression(3), recipe=Recipe(optimizer))
    result = measure_rate_range(subject, THOROUGH)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert measure_rate_range(subject, THOROUGH) == result
    found = result.rate_range
    assert found is not None
    assert found.optimizer == (optimizer or "adamw")
    assert found.ceiling is not None
    assert found.steepest is not None
    assert 1e-4 < found.steepest <= found.ceiling <= 10
    assert all(np.isfinite(found.losses))
    assert len(found.losses) == len(found.rates) <= THOROUGH.budget.range_steps


def test_the_users_groups_keep_their_proportions() -> None:
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            seen.append([group["lr"] for group in self.param_groups])

    def make(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        first, *rest = list(parameters)
        return Watched([{"params": [first], "lr": 0.4}, {"params": rest, "lr": 0.1}], lr=0.1)

    found = ranged(opened(mlp(), regression(), make_optimizer=make))
    assert [a for a, _ in seen] == pytest.approx(found.rates)
    assert [b for _, b in seen] == pytest.approx([r / 4 for r in found.rates])


def test_what_cannot_be_measured_is_said() -> None:
    for subject, settings, why in (
        (opened(mlp(), regression()), QUICK, "this effort takes no range test"),
        (opened(None, []), STANDARD, "only weights were opened"),
        (opened(mlp(), []), STANDARD, "there is no data or no loss"),
        (opened(mlp().requires_grad_(False), regression()), STANDARD, "no parameter is trainable"),
    ):
        result = measure_rate_range(subject, settings)
        assert result.rate_range is None
        assert [n.why for n in result.not_measured] == [why]


def test_smoothing_takes_the_bias_of_its_start_out() -> None:
    assert smoothed([5.0] * 6, 0.9) == pytest.approx([5.0] * 6)
    assert smoothed([1.0, 3.0], 0.5) == pytest.approx([1.0, (0.5 * 1 + 1 * 3) / 1.5])


def test_leaving_and_staying() -> None:
    assert not has_left([2.0, 2.1, 1.9, 1.0, 0.1, 0.5], 0.5)  # up again, but below its start
    assert has_left([2.0, 1.0, 0.5, 9.0, 30.0], 0.5)
    assert has_left([-2.0, -3.0, 40.0], 0.5)
    assert not has_left([-2.0, -3.0, -4.0], 0.5)
    assert last_on_course([2.0, 2.0, 2.0, 1.5, 1.0, 5.0, 9.0]) == 4
    assert last_on_course([]) == -1
    noisy = [2.0, 2.2, 1.9, 2.1, 1.5, 1.6, 9.0]
    assert last_on_course(noisy) == 5


def test_the_steepest_rate_is_the_one_whose_step_took_most_off() -> None:
    rates = [1e-3, 1e-2, 1e-1, 1.0]
    assert steepest_rate(rates, [2.0, 2.0, 1.9, 1.0]) == 1e-1
    assert steepest_rate(rates, [2.0, 2.0, 2.0, 2.0]) is None
    assert steepest_rate(rates, [2.0]) is None
