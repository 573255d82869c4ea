"""An interval astride its limit is told as a note: it neither fails nor passes in silence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradaudit import rules
from gradaudit.records import Estimate, Measurements, Recipe
from gradaudit.rules import all_rules, run_rules
from gradaudit.rules._astride import astride, told
from gradaudit.settings import Settings
from tests.rules.literal import (
    DIVERGES,
    FLAT,
    attention,
    loss,
    measurements,
    module,
    recurrent,
    stage,
    trunk,
    weight,
)
from tests.rules.test_curvature import HOT, SHARP
from tests.rules.test_precision import seen as in_half
from tests.rules.test_recipe import CLIP, TIGHT, moving

STAGES = (stage(0), stage(1, 10.0), stage(2, 10.0))
LSTM = replace(
    recurrent(-30.0),
    type="LSTM",
    steps=300,
    forget_gate=Estimate(0.97, 0.9, 0.999, "mean gate"),
    loss_growth_log10=-30.0,
)


def around(value: float, low: float, high: float | None) -> Estimate:
    return Estimate(value, low, high, "test")


def flat(**changes: Any) -> Measurements:
    return measurements(rehearsal=FLAT, **changes)


# Every one with its point value on the bad side where the rule asks for that, and no contradiction
# from the rehearsal: what holds the verdict back is the interval alone.
ASTRIDE = [
    ("GA101", flat(stages=STAGES, trunk=trunk(around(6.0, 4.0, 8.0)))),
    ("GA101", flat(stages=STAGES, trunk=trunk(around(0.0, 0.0, 0.0), around(200.0, 50.0, 800.0)))),
    ("GA102", flat(stages=STAGES, trunk=trunk(around(-7.0, -8.0, -5.0)))),
    ("GA201", flat(recurrent=(replace(recurrent(5.0), growth_log10=around(5.0, 3.0, 7.0)),))),
    ("GA202", flat(recurrent=(replace(recurrent(-9.0), growth_log10=around(-9.0, -10.0, -7.0)),))),
    ("GA203", flat(recurrent=(LSTM,))),
    ("GA301", flat(weights=(weight(1, 1.0, spectral_norm=around(30.0, 10.0, 40.0)),))),
    ("GA401", flat(modules=(module("act", "ReLU", dead_fraction=0.51),))),
    ("GA402", flat(modules=(module("act", "Tanh", saturated_fraction=0.505),))),
    ("GA403", flat(attention=(attention(0.099),))),
    (
        "GA503",
        flat(loss=replace(loss(), initial=around(3.6, 3.0, 4.2))),
    ),
    (
        "GA604",
        measurements(
            recipe=HOT,
            rehearsal=DIVERGES,
            curvature=replace(SHARP, sharpness=around(8.0, 1.0, None)),
        ),
    ),
    ("GA605", measurements(recipe=HOT, rehearsal=DIVERGES, **moving(head=around(0.2, 0.05, 0.9)))),
    ("GA605", measurements(recipe=HOT, rehearsal=DIVERGES, **moving(head=around(0.09, 0.05, 0.9)))),
    (
        "GA612",
        measurements(
            recipe=replace(CLIP, clip_norm=0.09),
            rehearsal=replace(
                TIGHT, gradient_norms=(2.0, 1.0, 0.5), clip_rate=around(0.96, 0.8, 1.0)
            ),
        ),
    ),
    ("GA701", in_half(largest_activation=65530.0, largest_activation_at="body", rehearsal=FLAT)),
    ("GA701", in_half(largest_gradient=65530.0, rehearsal=FLAT)),
    ("GA702", in_half(underflow=around(0.06, 0.04, 0.08), underflow_at="body", rehearsal=FLAT)),
    ("GA703", in_half("bf16", weights="bfloat16", lost_updates=around(0.6, 0.4, 0.7))),
]
# Judged on numbers without an interval, or never more than a note.
EXACT = {"GA104", "GA606", "GA607"}


@pytest.mark.parametrize(
    ("code", "seen"), ASTRIDE, ids=[f"{c}-{i}" for i, (c, _) in enumerate(ASTRIDE)]
)
def test_an_interval_astride_the_limit_is_a_note_that_says_so(
    code: str, seen: Measurements
) -> None:
    found = run_rules(seen, Settings(select=(code,)))
    assert found
    for finding in found:
        assert finding.severity == "note"
        assert astride(finding)
        assert finding.why.count("both sides of the limit") == 1


def test_a_value_without_an_interval_is_not_said_to_reach_anywhere() -> None:
    (finding,) = run_rules(ASTRIDE[0][1], Settings(select=(ASTRIDE[0][0],)))
    alone = replace(finding, why="It is.", measured=replace(finding.measured, low=None, high=None))
    assert told(alone).why == (
        "It is. This one value has no interval, so this does not count for the verdict."
    )


def test_every_rule_that_judges_an_interval_is_tried() -> None:
    home = Path(rules.__file__).parent
    judging = re.compile(r"\b(standing|judge|judged_rows|growth_findings)\(")
    codes = {
        re.search(r'CODE = "(GA\d+)"', text)[1]  # type: ignore[index]
        for path in home.glob("[a-z]*.py")
        if "CODE = " in (text := path.read_text()) and judging.search(text)
    }
    also_past_alone = {"GA611"}  # takes what GA201 says is past, and warns of nothing else
    assert codes == {code for code, _ in ASTRIDE} | EXACT | also_past_alone
    assert codes <= {each.code for each in all_rules()}


def test_a_note_within_its_limit_is_left_as_it_is() -> None:
    past = flat(weights=(weight(1, 1.0, spectral_norm=around(30.0, 25.0, 40.0)),))
    (finding,) = run_rules(past, Settings(select=("GA301",)))
    assert finding.severity == "warn"
    assert "both sides" not in finding.why
    assert not astride(finding)


def test_nothing_astride_keeps_a_verdict_from_passing() -> None:
    from gradaudit.gate import verdict

    seen = flat(stages=STAGES, trunk=trunk(around(6.0, 4.0, 8.0)), recipe=Recipe("sgd", 0.1))
    found = run_rules(seen, Settings(select=("GA101",)))
    assert verdict(found, seen, (), Settings()) == "pass"
