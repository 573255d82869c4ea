"""GA604, and what GA601 and the learning rate's remedy make of the curvature."""

from dataclasses import replace

import pytest
import torch

from gradaudit.records import Curvature, Estimate, RateRange, Recipe
from gradaudit.remedies import prescribe
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from tests.remedies.pasted import ids, paste, prescription, remedy
from tests.rules.literal import (
    DIVERGES,
    FALLS_ABOVE_CONSTANT,
    FLAT,
    MADE_UP,
    TRAINED,
    check,
    estimate,
    measurements,
    only,
)

HOT = Recipe(optimizer="sgd", lr=1.0)
SHARP = Curvature(
    sharpness=estimate(8.0, 7.0, 9.0),
    preconditioned_sharpness=None,
    ceiling=estimate(2.0),
    rate_ceiling=estimate(0.25, 0.22, 0.28),
    rule="2 / lr",
    optimizer="sgd",
)
ADAM = Recipe(optimizer="adam", lr=1e-2)
SHARP_TO_ADAM = replace(
    SHARP,
    sharpness=estimate(1.0),
    preconditioned_sharpness=estimate(8e3, 7e3, 9e3),
    ceiling=estimate(3.8e3),
    rate_ceiling=estimate(38 / 8e3, 38 / 9e3, 38 / 7e3),
    rule="(2 + 2 beta1) / ((1 - beta1) lr)",
    optimizer="adam",
)


@pytest.mark.parametrize(
    ("rehearsal", "severity", "said"),
    [
        (DIVERGES, "fail", "the loss diverges"),
        (FLAT, "warn", "does not fall"),
        (FALLS_ABOVE_CONSTANT, "note", "falls all the same"),
        (None, "note", "No rehearsal"),
    ],
)
def test_the_rehearsal_decides(rehearsal: object, severity: str, said: str) -> None:
    finding = only("GA604", measurements(recipe=HOT, curvature=SHARP, rehearsal=rehearsal))
    assert finding.severity == severity
    assert (finding.measured.value, finding.limit.value) == (8.0, 2.0)
    assert said in finding.why
    assert "curvature of 8, and sgd at the rate 1 is stable up to 2" in finding.why
    assert "bears a rate of 0.25" in finding.why
    assert finding.limit.source == "2 / lr of sgd at lr = 1, on a quadratic"


def test_an_adaptive_method_is_judged_on_what_it_feels_and_milder() -> None:
    seen = measurements(recipe=ADAM, curvature=SHARP_TO_ADAM, rehearsal=DIVERGES)
    finding = only("GA604", seen)
    assert (finding.severity, finding.measured.value) == ("warn", 8e3)
    unknown = replace(SHARP_TO_ADAM, preconditioned_sharpness=None)
    assert check("GA604", replace(seen, curvature=unknown)) == []


@pytest.mark.parametrize("low", [2.0, 1.0, None])
def test_only_an_interval_wholly_above_counts(low: float | None) -> None:
    doubtful = replace(SHARP, sharpness=Estimate(8.0, low, None, "curvature"))
    seen = measurements(recipe=HOT, curvature=doubtful, rehearsal=DIVERGES)
    assert only("GA604", seen).severity == "note"


def test_a_recipe_that_was_not_given_is_not_judged() -> None:
    seen = measurements(recipe=HOT, curvature=SHARP, rehearsal=DIVERGES)
    assert check("GA604", replace(seen, recipe=Recipe(optimizer="sgd"))) == []
    assert check("GA604", replace(seen, rehearsal=replace(DIVERGES, prescribed=True))) == []
    assert check("GA604", replace(seen, curvature=replace(SHARP, ceiling=None))) == []
    assert check("GA604", replace(seen, curvature=None)) == []


def test_made_up_data_never_fails_and_learned_weights_may_stay_where_they_are() -> None:
    seen = measurements(recipe=HOT, curvature=SHARP, rehearsal=DIVERGES)
    assert only("GA604", replace(seen, sample=MADE_UP)).severity == "warn"
    assert only("GA604", replace(seen, state=TRAINED, rehearsal=FLAT)).severity == "note"
    assert only("GA604", replace(seen, state=TRAINED)).severity == "fail"


def test_a_rate_that_diverged_is_also_told_what_the_curvature_bears() -> None:
    rescued = replace(DIVERGES, rescued_by_rate=0.1)
    seen = measurements(recipe=HOT, rehearsal=rescued, curvature=SHARP)
    assert "The curvature at the start bears a rate of 0.25." in only("GA601", seen).why
    lower = replace(seen, curvature=replace(SHARP, rate_ceiling=estimate(2.0)))
    assert "curvature" not in only("GA601", lower).why


# --- the remedy


def test_the_curvature_gives_a_rate_where_nothing_else_does() -> None:
    made = remedy(measurements(recipe=HOT, curvature=SHARP, rehearsal=DIVERGES), "learning-rate")
    assert made.parameters["lr"] == pytest.approx(0.11)
    assert str(made.parameters["basis"]).startswith("half of what the curvature at the start bears")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    paste(made.code, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.11)


def test_a_rate_under_which_something_trained_goes_first() -> None:
    rescued = replace(DIVERGES, rescued_by_rate=0.1)
    seen = measurements(recipe=HOT, curvature=SHARP, rehearsal=rescued)
    assert remedy(seen, "learning-rate").parameters["lr"] == 0.1
    ranged = RateRange("sgd", (1e-3, 1.0), (2.3, 9.0), ceiling=0.1, steepest=0.03)
    seen = measurements(recipe=HOT, curvature=SHARP, rehearsal=FLAT, rate_range=ranged)
    assert remedy(seen, "learning-rate").parameters["lr"] == 0.03


def test_adaptive_methods_warm_up_while_their_second_moment_settles() -> None:
    recipe = replace(ADAM, betas=(0.9, 0.98))
    seen = measurements(recipe=recipe, curvature=SHARP_TO_ADAM, rehearsal=FLAT)
    assert ids(seen) == ["learning-rate", "warm-up"]
    written = prescription(seen).recipe
    assert written["warmup_steps"] == 100  # 2 / (1 - 0.98)
    optimizer = torch.optim.Adam([torch.zeros(1)], lr=1.0)
    for each in prescription(seen).remedies:
        paste(each.code, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(written["lr"] / 100)
    warm = replace(seen, recipe=replace(ADAM, warmup=10))
    assert ids(warm) == ["learning-rate"]


def test_a_curvature_that_bears_the_rate_has_no_say() -> None:
    gentle = replace(SHARP, rate_ceiling=estimate(10.0))
    seen = measurements(recipe=HOT, curvature=gentle, rehearsal=DIVERGES)
    findings = run_rules(seen, Settings())
    made, _ = prescribe(findings, seen, Settings())
    assert made is None or all(r.id != "learning-rate" for r in made.remedies)
