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
    assert "1.58x per step back in time; after 41 steps that is 10^8" in finding.why
    assert finding.where.module == "rnn"
    assert (finding.measured.value, finding.limit.value) == (16.0, 4.0)


@pytest.mark.parametrize(
    ("rehearsal", "changes", "severity"),
    [
        (FLAT, {}, "fail"),
        (FALLS, {}, "note"),
        (None, {}, "warn"),
        (DIVERGES, {}, "fail"),
        (replace(DIVERGES, prescribed=True), {}, "warn"),  # a rate that nobody gave
        (replace(FLAT, prescribed=True), {}, "fail"),
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


# --- GA203


def lstm(gate: float, growth: float = -60.0, spread: float = 0.001, **changes: object) -> object:
    opening = Estimate(gate, gate - spread, gate + spread, "mean gate")
    return replace(recurrent(growth), type="LSTM", steps=300, forget_gate=opening, **changes)


def gated(row: object, rehearsal: object = FLAT, **changes: object) -> object:
    return measurements(recurrent=(row,), rehearsal=rehearsal, **changes)


def test_a_closed_gate_explains_a_failing_vanishing_gradient() -> None:
    finding = only("GA203", gated(lstm(0.5)))
    assert finding.severity == "warn"
    assert only("GA202", gated(lstm(0.5))).severity == "fail"  # one fails, the other says why
    assert finding.measured.value == 0.5
    assert finding.limit.value == pytest.approx(1e-4 ** (1 / 299))
    assert "over 300 steps" in finding.limit.unit
    assert "open to 0.5 on average: over 300 steps it keeps 10^-90" in finding.why
    assert "It would take 0.9697." in finding.why
    assert finding.why.endswith("This is why the gradient does not reach back (GA202).")


@pytest.mark.parametrize(
    ("rehearsal", "changes", "closing"),
    [
        (FALLS, {}, "does not need that memory"),
        (None, {}, "if the task needs"),
        (FLAT, {"sample": MADE_UP}, "if the task needs"),
    ],
)
def test_it_is_a_note_where_vanishing_does_not_fail(
    rehearsal: object, changes: dict, closing: str
) -> None:
    finding = only("GA203", gated(lstm(0.5), rehearsal, **changes))
    assert finding.severity == "note"
    assert closing in finding.why


def test_it_is_a_note_where_the_loss_reads_the_early_steps() -> None:
    finding = only("GA203", gated(lstm(0.5, loss_growth_log10=-1.0)))
    assert finding.severity == "note"
    assert "reads the early steps directly" in finding.why


@pytest.mark.parametrize(
    "row",
    [
        lstm(0.5, growth=-2.0),  # the recurrent weights carry it all the same
        lstm(0.98),  # open enough: something else makes it vanish
        replace(lstm(0.5), forget_gate=None),
        recurrent(-60.0),
        replace(lstm(0.5), growth_log10=Estimate(-8.1, -9.0, -7.0, "")),
    ],
)
def test_it_is_silent_unless_closed_and_confirmed(row: object) -> None:
    assert check("GA203", gated(row)) == []


def test_a_gate_that_may_be_open_enough_is_a_note() -> None:
    assert only("GA203", gated(lstm(0.969, spread=0.01))).severity == "note"
    unknown = replace(lstm(0.5), forget_gate=Estimate(0.5, None, None, "mean gate"))
    assert only("GA203", gated(unknown)).severity == "note"


def test_a_gru_has_an_update_gate_and_a_shut_gate_keeps_nothing() -> None:
    gru = replace(lstm(0.0, spread=0.0), type="GRUCell")
    finding = only("GA203", gated(gru))
    assert finding.why.startswith("The update gate of `rnn` is open to 0 on average")


# --- two directions


def test_a_bidirectional_layer_has_one_finding_the_one_that_weighs_more() -> None:
    forward = lstm(0.5, loss_growth_log10=-1.0)
    backward = lstm(0.5, direction="backward")
    for order in ((forward, backward), (backward, forward)):
        both = measurements(recurrent=order, rehearsal=FLAT)
        finding = only("GA202", both)
        assert finding.severity == "fail"
        assert "Through the backward half of `rnn`" in finding.why
        assert "per step forward in time" in finding.why
        assert only("GA203", both).severity == "warn"


def test_an_exploding_backward_half_is_told() -> None:
    row = recurrent(16.0, direction="backward")
    assert "the backward half of `rnn`" in only("GA201", measurements(recurrent=(row,))).why
