"""Numbers from the start, weighed against the training that was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gradaudit.records import Estimate, Finding, Limit, Severity, Trial, Where
from gradaudit.rules import run_rules
from gradaudit.rules._weighed import weighed
from tests.rules.literal import FALLS, MADE_UP, SETTINGS, data, measurements
from tests.rules.outlooks import BROKE, flat, followed

DOWN, STUCK = flat(0.3, steps=500), flat(0.95, steps=500)
START = ("GA101", "GA102", "GA105", "GA201", "GA202", "GA302", "GA402", "GA403", "GA503")
RECIPE = ("GA601", "GA602", "GA607", "GA612", "GA701", "GA702", "GA703", "GA704")
DATA = ("GA501", "GA502")


def finding(
    code: str,
    severity: Severity = "warn",
    low: float | None = 3.0,
    high: float | None = 5.0,
    why: str = "So.",
) -> Finding:
    """One with the limit 2: as it stands, the whole interval is past it."""
    measured = Estimate(4.0, low, high, "test")
    return Finding(code, "name", severity, Where(), measured, Limit(2.0, "test", ""), why)


def severities(
    found: Sequence[Finding], own: Trial, reference: Trial | None, **changes: Any
) -> list[str]:
    return [f.severity for f in weighed(found, followed(own, reference, **changes))]


MIXED = [finding("GA101", "fail"), finding("GA102"), finding("GA501"), finding("GA602", "note")]


def test_without_an_outlook_on_real_data_nothing_changes() -> None:
    assert weighed(MIXED, measurements(rehearsal=FALLS)) == tuple(MIXED)
    assert weighed(MIXED, followed(flat(0.1), sample=MADE_UP)) == tuple(MIXED)
    assert weighed(MIXED, followed(flat(0.9), DOWN, sample=MADE_UP)) == tuple(MIXED)
    assert weighed([], followed(flat(0.1))) == ()


def test_what_trains_is_not_failed_for_how_it_starts() -> None:
    excused = finding("GA102", "fail", why="Old; this does not fail the audit.")
    failed, *rest, told = weighed([*MIXED, excused], followed(flat(0.1, steps=640)))
    assert failed.severity == "warn"
    assert failed.why == (
        "So. Training with this recipe was followed for 640 steps and does not suffer from it, so "
        "this does not fail the audit."
    )
    assert rest == MIXED[1:]
    assert (told.severity, told.why) == ("warn", excused.why)


@pytest.mark.parametrize("own", [flat(0.9), BROKE])
def test_a_cause_past_its_limit_fails_where_training_does(own: Trial) -> None:
    found = [finding(code) for code in (*START, *DATA, *RECIPE)]
    for reference, causes in ((DOWN, (*RECIPE, *DATA)), (STUCK, (*START, *DATA)),
                              (None, (*START, *DATA))):  # fmt: skip
        raised = weighed(found, followed(own, reference))
        assert {f.code for f in raised if f.severity == "fail"} == set(causes)
        assert [f.code for f in raised] == [f.code for f in found]


@pytest.mark.parametrize(
    ("low", "high", "severity"),
    [
        (3.0, 5.0, "fail"),
        (3.0, None, "fail"),
        (0.5, 1.5, "fail"),  # below a limit that is a least one
        (None, 1.5, "fail"),
        (1.0, 5.0, "warn"),
        (None, 5.0, "warn"),
        (1.0, None, "warn"),
        (None, None, "warn"),
        (2.0, 2.0, "warn"),
    ],
)
def test_only_an_interval_that_lies_past_its_limit_as_a_whole(
    low: float | None, high: float | None, severity: str
) -> None:
    assert severities([finding("GA102", "warn", low, high)], flat(0.9), None) == [severity]


def test_notes_are_raised_only_where_the_task_may_need_what_they_miss() -> None:
    notes = [finding(code, "note") for code in (*START, *DATA)]
    raised = weighed(notes, followed(flat(0.9), None))
    assert [f.code for f in raised if f.severity == "fail"] == ["GA202", "GA502"]
    recipe = [finding(code, "note") for code in RECIPE]
    assert severities(recipe, flat(0.9), DOWN) == ["note"] * len(RECIPE)


def test_other_codes_keep_their_severity() -> None:
    others = [finding("GA301"), finding("GA001", "fail"), finding("GA603", "note")]
    for reference in (DOWN, None):
        assert severities(others, flat(0.9), reference) == ["warn", "fail", "note"]


def test_memory_is_not_failed_where_the_recipe_is() -> None:
    memory = [finding("GA202", "fail"), finding("GA203", "fail"), finding("GA201", "fail")]
    rate = finding("GA601")
    assert severities([*memory, rate], flat(0.9), DOWN) == ["warn", "warn", "fail", "fail"]
    # without a fault of the recipe, or one that a steady recipe shares, it may be the cause
    assert severities(memory, flat(0.9), DOWN) == ["fail"] * 3
    assert severities([*memory, rate], flat(0.9), STUCK) == ["fail"] * 3 + ["warn"]


def test_all_rules_are_weighed_together() -> None:
    wide = (data(std=3e3),)
    alone = {f.code: f.severity for f in run_rules(measurements(data=wide), SETTINGS)}
    trained = {f.code: f.severity for f in run_rules(followed(flat(0.1), data=wide), SETTINGS)}
    assert alone["GA501"] == "fail"
    assert trained["GA501"] == "warn"
    stuck = run_rules(followed(flat(0.9), STUCK, data=(data(std=30.0),)), SETTINGS)
    assert {f.code: f.severity for f in stuck}["GA501"] == "fail"
    assert stuck[0].severity == "fail"
