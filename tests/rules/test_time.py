"""GA201 and GA202 on literal recurrent rows."""

from dataclasses import replace

import pytest

from gradaudit.records import Estimate
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FLAT,
    MADE_UP,
    check,
    data,
    measurements,
    only,
    recurrent,
)


def seen(growth: float | None, rehearsal: object = FLAT, **changes: object) -> object:
    return measurements(recurrent=(recurrent(growth),), rehearsal=rehearsal, **changes)


def test_exploding_fails_unless_the_rehearsal_contradicts() -> None:
    for rehearsal in (FLAT, DIVERGES, None):
        finding = only("GA201", seen(16.0, rehearsal))
        assert finding.severity == "fail"
    assert only("GA201", seen(16.0, FALLS)).severity == "warn"
    assert only("GA201", seen(16.0, None, sample=MADE_UP)).severity == "fail"
    assert "1.58x per step back in time; over 41 steps that is 10^8" in finding.why
    assert finding.where.module == "rnn"
    assert (finding.measured.value, finding.limit.value) == (16.0, 4.0)


@pytest.mark.parametrize(
    ("rehearsal", "changes", "severity"),
    [
        (FLAT, {}, "fail"),
        (FALLS, {}, "note"),
        (None, {}, "warn"),
        (FLAT, {"sample": MADE_UP}, "warn"),
        (FALLS, {"sample": MADE_UP}, "warn"),
        (FLAT, {"data": (data(std=1e4),)}, "warn"),  # the data may be why the loss stays
    ],
)
def test_vanishing_fails_only_against_a_real_rehearsal(
    rehearsal: object, changes: dict, severity: str
) -> None:
    assert only("GA202", seen(-20.0, rehearsal, **changes)).severity == severity


def test_vanishing_names_the_horizon() -> None:
    row = recurrent(-20.0, horizon=8)
    finding = only("GA202", measurements(recurrent=(row,), rehearsal=FALLS))
    assert "more than 8 steps back" in finding.why
    assert "does not need that memory" in finding.why


@pytest.mark.parametrize("growth", [-7.9, 0.0, 2.9, None])
def test_within_limits_or_unmeasured_is_silent(growth: float | None) -> None:
    assert check("GA201", seen(growth)) == check("GA202", seen(growth)) == []


def test_a_straddled_limit_is_a_note() -> None:
    above = replace(recurrent(0.0), growth_log10=Estimate(4.1, 3.0, 5.0, ""))
    below = replace(recurrent(0.0), growth_log10=Estimate(-8.1, -9.0, -7.0, ""))
    rows = measurements(recurrent=(above, below), rehearsal=FLAT)
    assert only("GA201", rows).severity == only("GA202", rows).severity == "note"


def test_a_gradient_that_is_exactly_zero_is_bounded_from_above() -> None:
    gone = recurrent(None, profile=((0, 0.0), (1, 1e-30), (40, 1.0)))
    finding = only("GA202", measurements(recurrent=(gone,), rehearsal=FLAT))
    assert finding.severity == "fail"
    assert finding.measured == Estimate(-60.0, None, -60.0, finding.measured.unit)
    assert "at most 10^-30" in finding.why


def test_every_recurrent_module_has_its_own_finding() -> None:
    rows = (recurrent(16.0), recurrent(9.0, module="decoder"), recurrent(0.0, module="fine"))
    found = check("GA201", measurements(recurrent=rows))
    assert [finding.where.module for finding in found] == ["rnn", "decoder"]
