import pytest
from scipy import stats

from gradaudit.records import Estimate, Limit
from gradaudit.rules import _judge
from tests.rules.literal import (
    FALLS,
    FALLS_ABOVE_CONSTANT,
    FLAT,
    MADE_UP,
    TRAINED,
    loss,
    measurements,
)

LIMIT = Limit(10.0, "x", "")


@pytest.mark.parametrize(
    ("low", "high", "above", "expected"),
    [
        (10.1, 20.0, True, "past"),
        (10.0, 20.0, True, "straddles"),  # at the limit is not past it
        (1.0, 10.0, True, "within"),
        (1.0, None, True, "straddles"),
        (None, 20.0, True, "straddles"),
        (1.0, 9.9, False, "past"),
        (10.0, 20.0, False, "within"),
        (9.0, 11.0, False, "straddles"),
        (None, 9.0, False, "past"),
    ],
)
def test_standing(low: float | None, high: float | None, above: bool, expected: str) -> None:
    assert _judge.standing(Estimate(9.5, low, high, "x"), LIMIT, above=above) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(200.0, "fail"), (50.0, "warn"), (5.0, None), (10.0, None)]
)
def test_judge_against_two_limits(value: float, expected: str | None) -> None:
    judged = _judge.judge(Estimate.exact(value, "x"), warn=LIMIT, fail=Limit(100.0, "x", ""))
    assert (judged.severity if judged else None) == expected


def test_an_interval_across_the_failing_limit_still_warns() -> None:
    judged = _judge.judge(Estimate(90, 50, 200, "x"), warn=LIMIT, fail=Limit(100.0, "x", ""))
    assert judged == ("warn", LIMIT)


def test_only_a_rehearsal_that_beats_a_constant_contradicts() -> None:
    assert _judge.contradicted(measurements(rehearsal=FALLS))
    for rehearsal in (FALLS_ABOVE_CONSTANT, FLAT, None):
        assert not _judge.contradicted(measurements(rehearsal=rehearsal))


def test_learned_weights_have_to_show_it_on_real_data() -> None:
    good, bad = loss(initial=0.4), loss(initial=4.0)
    assert _judge.learned(measurements(state=TRAINED, loss=good))
    assert not _judge.learned(measurements(state=TRAINED, loss=bad))
    assert _judge.learned(measurements(state=TRAINED, loss=bad, sample=MADE_UP))
    assert not _judge.learned(measurements(loss=good))


@pytest.mark.parametrize(("share", "count"), [(0.0, 20), (1.0, 20), (0.35, 20), (0.9, 128)])
def test_wilson_agrees_with_scipy(share: float, count: int) -> None:
    exact = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    low, high = _judge.wilson(round(share * count) / count, count)
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-4)


def test_nothing_observed_leaves_the_whole_range() -> None:
    assert _judge.wilson(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.14159, "3.14"),
        (1234.4, "1234"),
        (2e-7, "2e-7"),
        (1e9, "1e9"),
        (1.23e9, "1.2e9"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert _judge.number(value) == text


def test_names_for_people() -> None:
    assert _judge.listed(["a"]) == "`a`"
    assert _judge.listed(["a", "b"]) == "`a` and `b`"
    assert _judge.listed(["a", "b", "c", "d", "e"]) == "`a`, `b`, `c` and 2 more"
    assert _judge.power(14.2) == "2e14"
    assert _judge.power(14.99) == "10^15"
    assert _judge.power(-7.4) == "4e-8"
    assert _judge.power(8.0) == "10^8"
    assert _judge.power(1.0) == "10"
