"""The learning rate that is prescribed, and trained with."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradaudit
from gradaudit.records import NonFinite, RateRange, Recipe, Report
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from tests.remedies.pasted import BY_CAUSE, ids, paste, prescription, remedy
from tests.rules.literal import DIVERGES, FALLS, FLAT, MADE_UP, data, loss, measurements

RANGE = RateRange("adam", (1e-4, 1.0), (2.0, 3.0), ceiling=0.1, steepest=0.03)
HOT = Recipe(optimizer="sgd", lr=1.0)


def test_the_rate_that_rescued_the_rehearsal() -> None:
    seen = measurements(
        recipe=HOT, rehearsal=replace(DIVERGES, rescued_by_rate=0.0123456), rate_range=RANGE
    )
    assert prescription(seen).recipe["lr"] == 0.01235
    assert prescription(seen).recipe["optimizer"] is None  # SGD was given and stays
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    paste(remedy(seen, "learning-rate").code, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.01235
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(("steepest", "rate"), [(0.03, 0.03), (0.09, 0.05), (None, 0.01)])
def test_the_rate_of_steepest_fall_stays_below_the_ceiling(
    steepest: float | None, rate: float
) -> None:
    seen = measurements(recipe=HOT, rehearsal=FLAT, rate_range=replace(RANGE, steepest=steepest))
    assert prescription(seen).recipe["lr"] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_where_the_recipe_is_silent_the_optimizer_comes_too(
    name: str, kind: type[torch.optim.Optimizer]
) -> None:
    ours = replace(FALLS, optimizer=name, prescribed=True, rates=(0.03,))
    seen = measurements(recipe=Recipe(), rehearsal=ours, rate_range=RANGE)
    recipe = prescription(seen).recipe
    rate = 0.03 if name == "sgd" else 0.01  # a range test says little of adaptive rates above it
    assert (recipe["optimizer"], recipe["lr"]) == (name, rate)
    made = paste(remedy(seen, "learning-rate").code, model=nn.Linear(2, 2))["optimizer"]
    assert type(made) is kind
    assert made.param_groups[0]["lr"] == rate


def test_a_rate_that_the_rehearsal_had_to_leave_is_not_given() -> None:
    lowered = replace(FALLS, prescribed=True, rates=(0.003,))
    seen = measurements(recipe=Recipe("sgd"), rehearsal=lowered, rate_range=RANGE)
    assert prescription(seen).recipe["lr"] == 0.003
    too_low = replace(FALLS, rates=(0.0003,), projected_fall=0.01)
    slow = measurements(recipe=Recipe("sgd", 0.0003), rehearsal=too_low, rate_range=RANGE)
    assert prescription(slow).recipe["lr"] == 0.03


def test_without_a_range_test_the_rehearsals_own_rate_is_given() -> None:
    ours = replace(FALLS, rates=(0.1, 0.02), prescribed=True)
    assert prescription(measurements(recipe=Recipe(), rehearsal=ours)).recipe["lr"] == 0.02
    assert ids(measurements(recipe=Recipe(), rehearsal=FLAT)) == []


def test_a_range_test_without_a_ceiling_is_not_taken_at_its_word() -> None:
    seen = measurements(
        recipe=Recipe(optimizer="sgd", lr=1e-7),
        rehearsal=replace(FLAT, projected_fall=0.0),
        rate_range=replace(RANGE, ceiling=None, steepest=3.0),
    )
    assert prescription(seen).recipe["lr"] == pytest.approx(0.3)
    assert "a tenth of where the loss fell fastest" in remedy(seen, "learning-rate").title


def test_a_rate_that_is_too_low_is_not_lowered() -> None:
    slow = replace(FLAT, projected_fall=0.0)
    recipe = Recipe(optimizer="sgd", lr=0.002, momentum=0.95)
    seen = measurements(recipe=recipe, rehearsal=slow, rate_range=RANGE)
    assert [finding.code for finding in run_rules(seen, Settings())] == ["GA602"]
    assert ids(seen) == []
    assert ids(replace(seen, recipe=replace(recipe, lr=0.001))) == ["learning-rate"]


def test_momentum_is_taken_off_the_rate_of_a_range_test() -> None:
    recipe = Recipe(optimizer="sgd", lr=1.0, momentum=0.9)
    seen = measurements(recipe=recipe, rehearsal=FLAT, rate_range=RANGE)
    assert prescription(seen).recipe["lr"] == pytest.approx(0.003)
    assert "times 1 - momentum" in remedy(seen, "learning-rate").title


def test_made_up_data_gives_no_rate() -> None:
    assert ids(measurements(recipe=Recipe(), rate_range=RANGE, sample=MADE_UP)) == []


# --- only the rate of a net that nothing else ails


@pytest.mark.parametrize("rescued", [None, 1e-3])
@pytest.mark.parametrize("rate_range", [None, RANGE])
def test_no_rate_is_taken_from_a_net_whose_data_is_off(
    rescued: float | None, rate_range: RateRange | None
) -> None:
    diverges = replace(DIVERGES, rescued_by_rate=rescued)
    seen = measurements(
        recipe=HOT, rehearsal=diverges, rate_range=rate_range, data=(data(std=1e4),),
        loss=loss("mse"),
    )  # fmt: skip
    assert ids(seen) == ["input-scaling"]
    assert prescription(seen).recipe["lr"] is None


def test_what_too_high_a_rate_does_to_the_rehearsal_is_not_another_fault() -> None:
    broke = replace(DIVERGES, first_nonfinite=NonFinite("forward", "exp", "head", 0, step=4))
    for rehearsal in (DIVERGES, broke):
        seen = measurements(recipe=HOT, rehearsal=rehearsal, rate_range=RANGE)
        assert prescription(seen).recipe["lr"] == 0.03


# --- on real nets


def dense(outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(16, 64), nn.ReLU()),
        *(nn.Linear(64, 64), nn.ReLU()),
        *(nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, outputs),
    )


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    return x, torch.tanh(x @ torch.randn(16, 1) / 4)


def audited(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: str, optimizer: torch.optim.Optimizer
) -> Report:
    batches = list(zip(x.split(32), y.split(32), strict=True))
    return gradaudit.audit(model, batches, loss=loss, optimizer=optimizer, settings=BY_CAUSE)


def trained(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[float, float]:
    """The loss before and after 300 steps."""
    before = criterion(model(x), y).item()
    for step in range(300):
        part = slice(32 * (step % 8), 32 * (step % 8 + 1))
        optimizer.zero_grad()
        criterion(model(x[part]), y[part]).backward()
        optimizer.step()
    return before, criterion(model(x), y).item()


def test_targets_to_be_scaled_are_trained_at_the_rate_that_was_given() -> None:
    x, y = samples()
    model, y = dense(1), 5000 * y + 20000
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    report = audited(model, x, y, "mse", optimizer)
    assert "GA601" in {finding.code for finding in report.findings}
    assert report.prescription is not None
    names = {"optimizer": optimizer, "x": x, "y": y, "model": model}
    for each in report.prescription.remedies:
        names |= paste(each.code, **names)
    before, after = trained(model, x, names["y"], F.mse_loss, optimizer)
    assert after < 0.1 * before


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9), torch.optim.Adam]
)
def test_far_too_low_a_rate_is_raised_to_one_that_trains(
    kind: Callable[..., torch.optim.Optimizer],
) -> None:
    x, y = samples()
    model, y = dense(4), torch.bucketize(x[:, 0] + x[:, 1], torch.tensor([-1.0, 0.0, 1.0]))
    optimizer = kind(model.parameters(), lr=1e-7)
    report = audited(model, x, y, "cross_entropy", optimizer)
    assert "GA602" in {finding.code for finding in report.findings}
    assert report.prescription is not None
    (rate,) = (each for each in report.prescription.remedies if each.id == "learning-rate")
    paste(rate.code, optimizer=optimizer)
    before, after = trained(model, x, y, F.cross_entropy, optimizer)
    assert after < 0.5 * before
