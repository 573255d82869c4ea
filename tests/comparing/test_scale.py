"""Which of two values is worse: by direction, interval and tolerance."""

from __future__ import annotations

import pytest

from gradaudit.comparing.scale import Scale, quotient
from gradaudit.records import Estimate

UP, DOWN, AWAY = (Scale("ratio", way) for way in ("up", "down", "away"))  # type: ignore[arg-type]
SHARE_UP, SHARE_DOWN, LOG_AWAY = (
    Scale("difference", way)  # type: ignore[arg-type]
    for way in ("up", "down", "away")
)


def e(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, low, high, "x")


@pytest.mark.parametrize(
    ("scale", "before", "now", "tolerance", "turn"),
    [
        (UP, e(1.0), e(1.09), 0.1, "unchanged"),
        (UP, e(1.0), e(1.11), 0.1, "worse"),
        (UP, e(1.11), e(1.0), 0.1, "better"),
        (DOWN, e(1.0), e(0.9), 0.1, "worse"),  # 1 / 1.1 is 0.909: a ratio holds both ways
        (DOWN, e(1.0), e(1.2), 0.1, "better"),
        # past the tolerance, but the intervals meet
        (UP, e(1.0, 0.8, 1.2), e(1.3, 1.1, 1.5), 0.1, "unchanged"),
        (UP, e(1.0, 0.9, 1.1), e(1.3, 1.15, 1.5), 0.1, "worse"),
        # the intervals are apart, but within the tolerance
        (UP, e(1.0, 1.0, 1.0), e(1.05, 1.05, 1.05), 0.1, "unchanged"),
        # growth per stage: away from 1 is worse, both ways
        (AWAY, e(1.02, 0.98, 1.06), e(1.3, 1.25, 1.35), 0.1, "worse"),
        (AWAY, e(0.98, 0.94, 1.02), e(0.7, 0.65, 0.75), 0.1, "worse"),
        (AWAY, e(1.3, 1.25, 1.35), e(1.02, 0.98, 1.06), 0.1, "better"),
        (AWAY, e(1.3), e(1 / 1.3), 0.1, "unchanged"),  # as far off on the other side
        (AWAY, e(1.0), e(0.0), 0.1, "worse"),  # a stage that passes nothing has no logarithm
        (LOG_AWAY, e(0.3), e(-1.2), 1.0, "unchanged"),
        (LOG_AWAY, e(0.3), e(-1.4), 1.0, "worse"),
        (LOG_AWAY, e(-14.0), e(-2.0), 1.0, "better"),
        (SHARE_UP, e(0.1), e(0.3), 0.25, "unchanged"),
        (SHARE_UP, e(0.1), e(0.4), 0.25, "worse"),
        (SHARE_DOWN, e(0.9), e(0.2), 0.4, "worse"),
        (SHARE_DOWN, e(0.2), e(0.9), 0.4, "better"),
    ],
)
def test_turn(scale: Scale, before: Estimate, now: Estimate, tolerance: float, turn: str) -> None:
    assert scale.turn(before, now, tolerance) == turn


def test_nothing_is_worse_than_itself() -> None:
    for scale in (UP, DOWN, AWAY, SHARE_UP, SHARE_DOWN, LOG_AWAY):
        for value in (0.0, 1e-30, 1.0, 3.0, 1e30):
            assert scale.turn(e(value), e(value), 0.0) == "unchanged"


def test_tolerances_in_words() -> None:
    assert [quotient(each) for each in (0.1, 0.35, 1.0, 3.0)] == [
        "10%",
        "35%",
        "a factor 2",
        "a factor 4",
    ]
