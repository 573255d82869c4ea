"""The scoreboard's arithmetic, on rows written by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy.stats import binomtest
from torch import nn

from gradaudit.records import Recipe
from tests.benchmarks import foresight
from tests.corpus import board
from tests.corpus.board import Share
from tests.corpus.case import Case, Task

TASK = Task("t", "mse", lambda _: iter(()))
LEAST = 0.2  # of the constant, which costs 2


def case(name: str, fault: str = "", *also: str) -> Case:
    return Case(f"f/{name}", TASK, nn.Identity, Recipe(), fault, also=also)


GOOD, FINE = case("good"), case("fine")
FAST, SLOW, DEEP, ODD = (
    case("fast", "rate-high"),
    case("slow", "rate-low", "target-scale"),
    case("deep", "depth-vanishing"),
    case("odd"),
)


def runs(*finals: float | None) -> list[dict[str, Any]]:
    return [{"first": 2.1, "final": final} for final in finals]


def trained(*finals: float | None) -> dict[str, Any]:
    return {"task": "t", "constant": 2.0, "runs": runs(*finals)}


@pytest.fixture(autouse=True)
def corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that train, and four that do not."""
    known = [(GOOD, True), (FINE, True), (FAST, False), (SLOW, False), (DEEP, False), (ODD, False)]
    sound = {c.name: trained(0.4, 0.41, 0.42) for c, trains in known if trains}
    faulty = {c.name: trained(1.9, 2.0, None) for c, trains in known if not trains}
    for place in (board, foresight):
        monkeypatch.setattr(place, "scored", lambda half: known)
    monkeypatch.setattr(board, "recorded", lambda half: {**sound, **faulty})
    monkeypatch.setattr(board, "best", lambda half: {"t": LEAST})


@pytest.mark.parametrize(
    ("hits", "trials"), [(0, 1), (1, 1), (0, 9), (9, 9), (1, 3), (7, 50), (149, 150), (250, 312)]
)
def test_intervals_are_wilsons(hits: int, trials: int) -> None:
    reference = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert Share(hits, trials).interval == pytest.approx((reference.low, reference.high), abs=1e-7)
    assert Share(hits, trials).value == hits / trials


def test_a_share_says_what_it_is_of() -> None:
    assert str(Share(7, 50)) == "0.140 (7/50; 0.070 to 0.262)"
    assert Share(0, 0).value == 1.0
    assert board.share([True, False, True, True]) == Share(3, 4)


def test_sound_and_faulty_weigh_the_same_and_silence_is_wrong() -> None:
    says = {GOOD: True, FINE: None, FAST: False, SLOW: False, DEEP: False, ODD: None}
    assert board.balanced("held", says.get) == (
        pytest.approx((0.5 + 0.75) / 2),
        Share(1, 2),
        Share(3, 4),
    )
    assert board.balanced("held", lambda _: True)[0] == pytest.approx(0.5)
    assert board.balanced("held", lambda _: None)[0] == 0


ROWS: dict[str, dict[str, Any]] = {
    GOOD.name: {"outcome": "trains", "confidence": 0.95, "verdict": "pass"},
    FINE.name: {"outcome": "stalls", "confidence": 0.7, "verdict": "fail"},
    FAST.name: {"outcome": "diverges", "confidence": 0.95, "verdict": "fail"},
    SLOW.name: {"outcome": "stalls", "confidence": 0.7, "verdict": "fail"},
    DEEP.name: {"outcome": "trains", "confidence": 0.7, "verdict": "warn"},
    ODD.name: {"outcome": "unknown", "confidence": 0.0, "verdict": "pass"},
}


def test_the_forecast_in_three_words() -> None:
    says = board.foretold({**ROWS, ODD.name: {"error": "raised"}})
    assert [says(c) for c in (GOOD, FINE, FAST, SLOW, DEEP, ODD)] == [
        *(True, False, False, False, True, None)
    ]


def test_false_alarms_are_counted_on_what_trains() -> None:
    assert board.false_alarms("held", ROWS) == Share(1, 2)


def test_calibration_is_the_share_that_came_true_at_each_confidence() -> None:
    assert board.calibration("held", ROWS) == {0.7: Share(1, 3), 0.95: Share(2, 2)}


def fails(*codes: str) -> list[dict[str, str]]:
    return [{"code": code, "severity": "fail"} for code in codes]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"findings": fails("GA601", "GA301")}, True),  # the planted one leads
        ({"findings": fails("GA301", "GA601")}, False),  # it is there, but not first
        ({"findings": []}, False),
        ({}, False),
        # another one leads, and a single change that answers it makes it train
        ({"findings": fails("GA301"), "sole": ["GA301"], "mended": runs(0.4, 0.5, None)}, True),
        # ... on one run of three only
        ({"findings": fails("GA301"), "sole": ["GA301"], "mended": runs(0.4, 1.9, None)}, False),
        # ... but what leads is not what was changed
        ({"findings": fails("GA301"), "sole": ["GA602"], "mended": runs(0.4, 0.4, 0.4)}, False),
        ({"findings": fails("GA301"), "sole": [], "mended": runs(0.4, 0.4, 0.4)}, False),
        ({"findings": fails("GA301"), "sole": ["GA301"], "mended": []}, False),
        # nothing is found, nothing is named: an empty code is no name
        ({"findings": [], "sole": [""], "mended": runs(1.9, 1.9, 1.9)}, False),
    ],
)
def test_a_cause_is_true_where_planted_or_where_its_removal_alone_mends(
    row: dict[str, Any], expected: bool
) -> None:
    assert board.cause_is_true("held", FAST, row) is expected


def test_another_name_of_the_fault_is_as_good() -> None:
    assert board.cause_is_true("held", SLOW, {"findings": fails("GA502")})
    assert not board.cause_is_true("held", FAST, {"findings": fails("GA502")})


def test_causes_are_asked_for_planted_faults_only() -> None:
    rows = {c.name: {"findings": fails("GA601")} for c in (GOOD, FINE, FAST, SLOW, DEEP, ODD)}
    assert board.causes("held", rows) == Share(1, 3)


def test_gained_is_minus_infinity_where_a_run_broke_or_left() -> None:
    values = [board.gained("held", FAST, run) for run in runs(0.4, 1.2, 2.0, 3.5, None)]
    assert values == [pytest.approx(1), pytest.approx(0.5), pytest.approx(0), -math.inf, -math.inf]


def test_mended_is_halfway_on_most_seeds() -> None:
    rows: dict[str, dict[str, Any]] = {
        FAST.name: {"mended": runs(0.4, 1.19, None)},
        SLOW.name: {"mended": runs(0.4, 1.21, None)},
        DEEP.name: {"mended": None},
        ODD.name: {},
        GOOD.name: {"mended": runs(0.4, 0.4, 0.4)},
    }
    assert board.mended("held", rows) == Share(1, 4)


def test_a_sound_recipe_is_worse_off_where_it_loses_a_twentieth() -> None:
    faulty = {c.name: {"mended": runs(2.0, 2.0, 2.0)} for c in (FAST, SLOW, DEEP, ODD)}
    rows: dict[str, dict[str, Any]] = {
        **faulty,
        GOOD.name: {"mended": runs(0.45, 0.48, 0.4)},  # median 0.97 of what it gained
        FINE.name: {"mended": runs(0.55, 0.5, 0.5)},  # 0.94
    }
    assert board.made_worse("held", rows) == [FINE.name]
    assert board.made_worse("held", {**faulty, GOOD.name: {}, FINE.name: {"mended": None}}) == []


def test_the_board_in_words() -> None:
    text = "\n".join(board.lines("held", ROWS))
    assert "held: 2 recipes train, 4 do not" in text
    assert "balanced accuracy   0.500" in text
    assert "sound 0.500 (1/2;" in text
    assert "confidence 0.95     1.000 (2/2;" in text


class Done:
    """A pool that maps in this process."""

    def __init__(self, jobs: int) -> None:
        self.map = map

    def __enter__(self) -> Done:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_tool_that_says_nothing_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    every = (GOOD, FINE, FAST, SLOW, DEEP, ODD)
    tools = {
        "hopeful": lambda _: True,
        "absent": lambda _: None,
        "fair": lambda c: not c.fault,
        "broken": lambda c: None if c is ODD else c in (GOOD, FINE),
    }
    monkeypatch.setattr(foresight, "cases", lambda half: every)
    monkeypatch.setattr(foresight, "RIVALS", tools)
    monkeypatch.setattr(foresight, "ProcessPoolExecutor", Done)
    found = [line.split()[:2] for line in foresight.rivals("held", 1)]
    assert found == [["hopeful", "0.500"], ["fair", "0.875"], ["broken", "0.875"]]
