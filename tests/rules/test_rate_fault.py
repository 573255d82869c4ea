"""GA601, GA602 and GA607 where training itself was followed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gradaudit.records import Curvature, Estimate, Measurements, RateRange, Recipe, Trial
from tests.rules.literal import DIVERGES, FALLS, MADE_UP, check, estimate, only
from tests.rules.outlooks import BROKE, flat, followed, trial
from tests.rules.test_weight_decay import ADAMW, rows
from tests.rules.test_weight_decay import SGD as DECAYING

DOWN = flat(0.3, steps=500)
SGD, ADAM = Recipe("sgd", 0.01), Recipe("adam", 1e-3)
RANGE = RateRange("sgd", (1e-3, 0.1), (2.3, 2.0), ceiling=0.005, steepest=0.003)


def curved(bears: Estimate | None) -> Curvature:
    return Curvature(estimate(8.0), None, None, rate_ceiling=bears)


def faults(own: Trial, reference: Trial | None = DOWN, **changes: Any) -> tuple[str, ...]:
    """Which of the two rules find something."""
    seen = followed(own, reference, **{"recipe": SGD, **changes})
    return tuple(code for code in ("GA601", "GA602") for _ in check(code, seen))


HIGH, LOW = ("GA601",), ("GA602",)


@pytest.mark.parametrize(
    ("own", "changes", "found"),
    [
        (flat(0.9), {}, LOW),
        (BROKE, {}, HIGH),
        (trial(1.0, 1.2, 1.6, 2.0), {}, HIGH),
        # signs of height in a loss that stalls
        (trial(1.0, 0.8, 0.9, 0.9), {}, HIGH),  # bounces
        (trial(1.0, 0.83, 0.9, 0.9), {}, LOW),
        (flat(0.9), {"rehearsal": replace(DIVERGES, rescued_by_rate=None)}, HIGH),
        (flat(0.9), {"rate_range": RANGE}, HIGH),
        (flat(0.9), {"rate_range": replace(RANGE, ceiling=0.02)}, LOW),
        (flat(0.9), {"rate_range": replace(RANGE, ceiling=None)}, LOW),
        (flat(0.9), {"curvature": curved(estimate(0.008, 0.007, 0.009))}, HIGH),
        (flat(0.9), {"curvature": curved(estimate(0.008, 0.007, 0.011))}, LOW),
        (flat(0.9), {"curvature": curved(Estimate(0.008, 0.007, None, "test"))}, LOW),
        (flat(0.9), {"curvature": curved(None)}, LOW),
        (flat(0.9), {"recipe": replace(SGD, momentum=0.95)}, HIGH),
        (flat(0.9), {"recipe": replace(SGD, momentum=0.9)}, LOW),
        # adaptive rates are held against the steady recipe's, 0.001
        (flat(0.9), {"recipe": replace(ADAM, lr=9e-3)}, HIGH),
        (flat(0.9), {"recipe": replace(ADAM, lr=7e-3)}, LOW),
        (flat(0.9), {"recipe": replace(SGD, lr=0.1)}, LOW),
        (trial(1.0, 0.8, 0.9, 0.9), {"recipe": ADAM}, HIGH),
        (trial(1.0, 0.8, 0.9, 0.9), {"recipe": replace(ADAM, lr=1e-4)}, LOW),
        # what the rate does not explain
        (flat(0.3), {}, ()),
        (flat(0.9), {"reference": flat(0.9)}, ()),
        (flat(0.9), {"reference": None}, ()),
        (flat(0.9), {"recipe": Recipe("sgd")}, ()),
        (flat(0.9), {"sample": MADE_UP}, ()),
        (flat(0.9), {"rehearsal": None}, ()),
        (flat(0.9), {"rehearsal": replace(FALLS, prescribed=True)}, ()),
    ],
)
def test_which_way_the_rate_is_off(
    own: Trial, changes: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert faults(own, **changes) == found


def tight(**changes: Any) -> dict[str, Any]:
    rehearsal = replace(FALLS, clip_rate=estimate(1.0, 0.97, 1.0), gradient_norms=(50.0, 60.0))
    return {"recipe": replace(SGD, clip_norm=0.1), "rehearsal": rehearsal, **changes}


def test_a_clip_or_decay_that_explains_it_comes_first() -> None:
    assert faults(flat(0.9), **tight()) == ()
    assert faults(flat(0.9), **tight(recipe=replace(SGD, clip_norm=100.0))) == LOW
    assert faults(flat(0.9), recipe=DECAYING, parameters=rows()) == ()
    mild = replace(DECAYING, weight_decay=1e-3)
    assert faults(flat(0.9), recipe=mild, parameters=rows()) == LOW


def test_a_rate_that_is_seen_to_be_too_high() -> None:
    own = trial(1.0, 0.6, 0.7, 0.7)
    finding = only("GA601", followed(own, DOWN, recipe=SGD))
    assert (finding.severity, finding.measured.value, finding.limit.value) == ("fail", 0.01, 1e-3)
    assert finding.why == (
        "The rate 0.01 is too high: after 1000 steps the loss is 0.7 (0.6 at its lowest); from the "
        "same start adamw at 0.001 brings it to 0.3."
    )
    above = only("GA601", followed(own, DOWN, recipe=SGD, rate_range=RANGE))
    assert above.limit.value == 0.005
    below = replace(RANGE, ceiling=0.05)
    assert only("GA601", followed(own, DOWN, recipe=SGD, rate_range=below)).limit.value == 1e-3


def test_a_rate_that_is_seen_to_be_too_low() -> None:
    finding = only("GA602", followed(trial(1.0, 0.96, 0.93, 0.9), DOWN, recipe=SGD))
    assert (finding.severity, finding.measured.value, finding.limit.value) == ("fail", 0.01, 1e-3)
    assert finding.why == (
        "The rate 0.01 is too low: the loss creeps from 1 to 0.9 in 1000 steps; from the same "
        "start adamw at 0.001 brings it to 0.3 in 500."
    )


def test_what_was_rehearsed_outweighs_what_was_followed() -> None:
    rescued = replace(DIVERGES, rescued_by_rate=1e-4)
    finding = only("GA601", followed(BROKE, DOWN, recipe=SGD, rehearsal=rescued))
    assert finding.limit.value == 1e-4
    assert "the rehearsal diverges" in finding.why


# --- GA607


def decaying(own: Trial, reference: Trial | None, pull: float, **changes: Any) -> Measurements:
    recipe = replace(DECAYING, weight_decay=pull / 30)
    return followed(own, reference, **{"recipe": recipe, "parameters": rows(), **changes})


@pytest.mark.parametrize(
    ("own", "reference", "pull", "limit"),
    [
        (flat(0.9), DOWN, 0.29, None),
        (flat(0.9), DOWN, 0.31, 0.3),
        (BROKE, DOWN, 0.31, 0.3),
        (flat(0.9), DOWN, 20.0, 0.3),
        (flat(0.3), DOWN, 0.31, None),  # trains
        (flat(0.9), flat(0.9), 0.31, None),  # what a steady recipe suffers from as well
        (flat(0.9), None, 0.31, None),
        (flat(0.9), None, 20.0, 10.0),
        (flat(0.9), flat(0.9), 7.0, 5.0),
    ],
)
def test_decay_is_to_blame_sooner_where_training_was_seen_to_fail(
    own: Trial, reference: Trial | None, pull: float, limit: float | None
) -> None:
    seen = decaying(own, reference, pull)
    if limit is None:
        assert check("GA607", seen) == []
        return
    finding = only("GA607", seen)
    assert finding.limit.value == limit
    assert finding.measured.value == pytest.approx(pull)
    assert finding.severity == ("warn" if limit == 5.0 else "fail")


def test_decay_beside_the_step_likewise() -> None:
    recipe = replace(ADAMW, weight_decay=1.0)  # its pull is 0.375
    seen = followed(flat(0.9), DOWN, recipe=recipe, parameters=rows())
    assert only("GA607", seen).severity == "fail"
    assert check("GA607", replace(seen, recipe=replace(recipe, weight_decay=0.7))) == []
    made_up = replace(seen, sample=MADE_UP)
    assert only("GA607", made_up).severity == "warn"
