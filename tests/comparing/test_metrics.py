"""The numbers that are kept of a report, and how each is held against an earlier one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from gradaudit.comparing import snapshot as of_report
from gradaudit.comparing.metrics import METRICS
from gradaudit.records import Estimate, Measurements, ModuleRow, Report
from gradaudit.tolerances import TOLERANCES
from tests import shared_report
from tests.comparing.literal import compared, measured, snapshot


def report(base: Report, **changed: Any) -> Report:
    seen: Measurements = dataclasses.replace(base.measurements, **changed)
    return dataclasses.replace(base, measurements=seen)


def value(of: Report, metric: str) -> float | None:
    found = of_report(of).metric(metric)
    return None if found is None else found.estimate.value


SOUND = report(
    shared_report.sound(),
    trunk=dataclasses.replace(
        shared_report.sound().measurements.trunk,
        interior_growth_log10=Estimate(0.4, 0.3, 0.5, "log10 of the gain"),
    ),
)


def test_every_metric_has_a_tolerance_and_nothing_else_has() -> None:
    others = {"finding", "finding_share", "exponent"}
    assert {metric.name for metric in METRICS} | others == set(TOLERANCES)
    assert all(limit.value > 0 and limit.source for limit in TOLERANCES.values())


def test_every_metric_is_read_from_some_report() -> None:
    found = {
        each.metric
        for of in (SOUND, *shared_report.every().values())
        for each in of_report(of).metrics
    }
    assert found == {metric.name for metric in METRICS}


def test_growth_is_read_from_the_trunk() -> None:
    trunk = SOUND.measurements.trunk
    assert trunk.growth_per_stage
    assert trunk.interior_growth_log10
    assert value(SOUND, "growth_per_stage") == trunk.growth_per_stage.value
    assert value(SOUND, "interior_growth_log10") == trunk.interior_growth_log10.value
    worst = of_report(SOUND).metric("worst_stage_gain")
    (row,) = [row for row in SOUND.measurements.stages if row.index == trunk.worst_stage]
    assert worst is not None
    assert (worst.place, worst.estimate) == (row.name, row.backward_gain)


def test_the_largest_norm_leaves_embeddings_out() -> None:
    rows = SOUND.measurements.weights
    large = dataclasses.replace(
        rows[0], parameter="emb", kind="embedding", spectral_norm=Estimate.exact(1e3, "norm")
    )
    before = value(SOUND, "largest_spectral_norm")
    assert value(report(SOUND, weights=(*rows, large)), "largest_spectral_norm") == before
    dense = dataclasses.replace(large, kind="dense")
    assert value(report(SOUND, weights=(*rows, dense)), "largest_spectral_norm") == 1e3


def test_the_loss_after_the_rehearsal() -> None:
    rehearsal, loss = SOUND.measurements.rehearsal, SOUND.measurements.loss
    assert rehearsal
    assert loss

    def ends(*losses: float, constant: float | None = 2.0, **changed: Any) -> float | None:
        row = dataclasses.replace(rehearsal, **{"losses": losses, "outcome": "falls", **changed})
        held = dataclasses.replace(loss, constant=constant)
        return value(report(SOUND, rehearsal=row, loss=held), "rehearsal_loss")

    assert ends(8.0, 4.0, 3.0, 1.0) == 0.5
    assert ends(*[9.0] * 6, 1.0, 3.0) == 1.0  # the mean of the last quarter
    assert ends(2.0, 1e-9) == 0.1
    assert ends(2.0, 9e30) == ends(2.0, 1.0, outcome="diverges") == 10.0
    assert ends(4.0, 1.0, constant=None) == ends(4.0, 1.0, constant=0.0) == 0.25
    assert ends(-2.0, -3.0, constant=None) is None
    assert ends() is None


def test_losses_after_other_numbers_of_steps_are_not_compared() -> None:
    rehearsal = SOUND.measurements.rehearsal
    assert rehearsal
    longer = dataclasses.replace(rehearsal, steps=rehearsal.steps + 1, losses=(2.0, 2.0))
    before, now = of_report(SOUND), of_report(report(SOUND, rehearsal=longer))
    (change,) = [m for m in compared(before, now).metrics if m.metric == "rehearsal_loss"]
    assert change.change == "unchanged"
    assert change.why.startswith("Not comparable")


def test_the_forecast_is_a_probability() -> None:
    def trains(outcome: Any, confidence: float) -> float | None:
        forecast = dataclasses.replace(SOUND.forecast, outcome=outcome, confidence=confidence)
        return value(dataclasses.replace(SOUND, forecast=forecast), "trains")

    assert trains("trains", 0.9) == 0.9
    assert trains("diverges", 0.75) == trains("stalls", 0.75) == 0.25
    assert trains("unknown", 0.0) is None


def test_shares_are_the_largest_of_all_layers() -> None:
    rows = tuple(
        ModuleRow(f"layers.{i}", 0, "ReLU", 1.0, 1.0, dead_fraction=share)
        for i, share in enumerate((0.1, None, 0.4, 0.4))
    )
    found = of_report(report(SOUND, modules=rows)).metric("dead_fraction")
    assert found is not None
    assert (found.place, found.estimate.value) == ("layers.2", 0.4)


def test_growth_s_interval_holds_what_another_start_would_give() -> None:
    """Log gains of n stages with spread s: their mean varies by s / sqrt(n), their sum by the n."""
    gains = [0.5, 2.0] * 8
    stages = tuple(
        dataclasses.replace(
            SOUND.measurements.stages[1], index=i, role="interior", backward_gain=_exact(gain)
        )
        for i, gain in enumerate(gains)
    )
    trunk = dataclasses.replace(
        SOUND.measurements.trunk,
        growth_per_stage=_exact(1.0),
        interior_growth_log10=Estimate.exact(0.0, "log10 of the gain"),
    )
    kept = of_report(report(SOUND, stages=stages, trunk=trunk))
    spread = math.log(2) * math.sqrt(16 / 15)
    per, total = kept.metric("growth_per_stage"), kept.metric("interior_growth_log10")
    assert per is not None
    assert total is not None
    assert per.estimate.high == pytest.approx(math.exp(2.13 * spread / 4), rel=0.01)
    assert per.estimate.low == pytest.approx(math.exp(-2.13 * spread / 4), rel=0.01)
    assert total.estimate.high == pytest.approx(2.13 * spread * 4 / math.log(10), rel=0.01)


def test_of_one_interior_stage_the_worst_says_it_all() -> None:
    one = [row for row in SOUND.measurements.stages if row.role == "interior"][:1]
    assert value(report(SOUND, stages=tuple(one)), "growth_per_stage") is None


def _exact(number: float) -> Estimate:
    return Estimate.exact(number, "gain")


# --- held against an earlier one


def test_a_regression_no_rule_finds_is_told() -> None:
    before = snapshot(measured("growth_per_stage", 1.02, 0.04), verdict="pass")
    now = snapshot(measured("growth_per_stage", 1.3, 0.05), verdict="pass")
    (change,) = compared(before, now).metrics
    assert change.change == "worse"
    assert change.why == "1.02 -> 1.3: worse by more than its interval and 10%."
    assert (change.title, change.tolerance) == ("growth per stage", "its interval or 10%")
    assert compared(before, now).regressions == (change,)


def test_within_its_tolerance_it_is_unchanged() -> None:
    before = snapshot(measured("growth_per_stage", 1.02, 0.04))
    for now in (1.1, 0.95, 1.02):
        assert not compared(before, snapshot(measured("growth_per_stage", now))).regressions


def test_what_is_not_measured_any_more_is_said() -> None:
    row = measured("sharpness", 20.0)
    lost = compared(snapshot(row), snapshot())
    assert [each.change for each in lost.metrics] == ["unchanged"]
    assert lost.metrics[0].why == "It was measured before, and is not now."
    assert any("Not measured any more, but in the baseline: sharpness" in s for s in lost.stale)
    added = compared(snapshot(), snapshot(row))
    assert not added.regressions
    assert any("Measured now, and not in the baseline: sharpness" in s for s in added.stale)


def test_a_place_that_moved_is_said() -> None:
    before = snapshot(measured("dead_fraction", 0.2, place="a", unit="share of units"))
    now = snapshot(measured("dead_fraction", 0.9, place="b", unit="share of units"))
    (change,) = compared(before, now).metrics
    assert change.change == "worse"
    assert "0.2 -> 0.9 share of units, at b (then at a): worse" in change.why


def test_an_audit_is_unchanged_from_itself() -> None:
    for of in shared_report.every().values():
        kept = of_report(of)
        same = compared(kept, kept)
        assert {each.change for each in (*same.findings, *same.metrics)} <= {"unchanged"}
        assert same.stale == ()
        assert len(same.findings) == len(of.findings)
