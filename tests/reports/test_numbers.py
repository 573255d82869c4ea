from __future__ import annotations

import pytest

from gradaudit.records import Estimate, Limit
from gradaudit.reports.numbers import (
    TERMINAL,
    amount,
    count,
    figures,
    interval,
    number,
    percent,
    phrase,
    power,
    power_interval,
    root,
    root_log10,
    share_interval,
)


@pytest.mark.parametrize(
    ("value", "page", "terminal"),
    [
        (0.0, "0", "0"),
        (1.0, "1", "1"),
        (-1.5, "−1.5", "-1.5"),
        (0.00123456, "0.00123", "0.00123"),
        (999.9, "1000", "1000"),
        (12345.0, "12,345", "12,345"),
        (1.0e5, "10⁵", "1e5"),
        (1.6e36, "1.6×10³⁶", "1.6e36"),
        (-2e-9, "−2×10⁻⁹", "-2e-9"),
        (9.999e-4, "10⁻³", "1e-3"),
        (5e-324, "4.94×10⁻³²⁴", "4.94e-324"),
        (1.7976931348623157e308, "1.8×10³⁰⁸", "1.8e308"),
    ],
)
def test_number(value: float, page: str, terminal: str) -> None:
    assert number(value) == page
    assert number(value, TERMINAL) == terminal


def test_figures_keep_their_zeros() -> None:
    assert [figures(v) for v in (1.1, 1.0, 20.0, 3e7)] == ["1.10", "1.00", "20.0", "3.00×10⁷"]


@pytest.mark.parametrize(
    ("log10", "text"),
    [(0.0, "1"), (2.5, "316"), (36.2, "1.6×10³⁶"), (-320.4, "4×10⁻³²¹"), (1500.999, "10¹⁵⁰¹")],
)
def test_power_outside_a_floats_range(log10: float, text: str) -> None:
    assert power(log10) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.2, 1.4, "1.20 to 1.40"),
        (1.3, 1.3, ""),
        (None, 1.4, "at most 1.40"),
        (1.2, None, "at least 1.20"),
        (None, None, "no interval"),
        (None, 0.0, "at most 0"),
    ],
)
def test_interval(low: float | None, high: float | None, text: str) -> None:
    assert interval(Estimate(1.3, low, high, "gain"), TERMINAL) == text


def test_power_interval_undoes_the_logarithm() -> None:
    assert power_interval(Estimate(3, 2, 36.2, "log10 gain")) == "100 – 1.6×10³⁶"


def test_amounts_given_as_logarithms_are_undone() -> None:
    measured = amount(Estimate(36.2, 36, 36.5, "log10 of total gain"))
    assert (measured.value, measured.unit) == ("1.6×10³⁶", "total gain")
    assert measured.interval == "10³⁶ – 3.2×10³⁶"
    assert amount(Limit(3.0, "log10 of total gain", "")).value == "1000"
    assert amount(Limit(3.0, "gain", "")).value == "3"


def test_count_and_percent() -> None:
    assert [count(n) for n in (5, 9_999, 12_345, 1_240_000, 7 * 10**9)] == [
        "5", "9,999", "12.3 k", "1.24 M", "7 G",
    ]  # fmt: skip
    assert [percent(s) for s in (0, 0.003, 0.5, 1)] == ["0%", "0.3%", "50%", "100%"]
    assert percent(1.3e-6) == "1.3×10⁻⁴%"


def test_ends_that_read_the_same_become_a_relative_width() -> None:
    assert interval(Estimate(2.31, 2.3091, 2.3109, "")) == "± 0.039%"
    assert interval(Estimate(2.31, 2.3091, 2.3109, ""), TERMINAL) == "+/- 0.039%"
    assert interval(Estimate(-2.31, -2.3109, -2.3091, "")) == "± 0.039%"
    assert interval(Estimate(2.31, 2.2, 2.4, "")) == "2.20 – 2.40"


def test_widths_of_float32s_rounding_are_left_out() -> None:
    assert interval(Estimate(0.328, 0.328 * (1 - 1.3e-7), 0.328 * (1 + 1.3e-7), "")) == ""


def test_the_growth_of_the_norm_is_the_root_of_the_gain() -> None:
    assert root(Estimate(9.0, 4.0, None, "gain")) == Estimate(3.0, 2.0, None, "gain")
    assert root_log10(Estimate(8.0, None, 9.0, "gain")) == Estimate(4.0, None, 4.5, "gain")


def test_ends_of_a_share_differ_where_they_can() -> None:
    assert share_interval(Estimate(0.131, 0.128, 0.134, "")) == "12.8% – 13.4%"
    assert share_interval(Estimate(2e-4, 1e-4, 4e-4, "")) == "0.01% – 0.04%"
    assert share_interval(Estimate(0.5, None, 0.6, "")) == "at most 60%"
    assert share_interval(Estimate.exact(0.5, "")) == ""


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("gain", "gain 3 (2.00 to 4.00), limit 1"),
        ("the gain (sums of squares)", "gain 3 (2.00 to 4.00), limit 1, as sums of squares"),
        (
            "all gain (sum of squares)",
            "all gain 3 (2.00 to 4.00), limit 1, as a sum of squares",
        ),
        ("gradient norm (L2), median", "gradient norm 3 (2.00 to 4.00), limit 1, L2, median"),
        (
            "step / weight, at rest",
            "step / weight 3 (2.00 to 4.00), limit 1, at rest",
        ),
        ("x the norm it needs", "3 (2.00 to 4.00) x the norm it needs, limit 1"),
        ("1 - mean cosine of the outputs of two samples", None),
    ],
)
def test_a_measured_number_reads_as_a_phrase(unit: str, said: str | None) -> None:
    told = phrase(Estimate(3.0, 2.0, 4.0, unit), Limit(1.0, unit, "a paper"), TERMINAL)
    assert told == (said or f"3 (2.00 to 4.00), limit 1 ({unit})")


def test_a_phrase_has_what_the_number_was() -> None:
    gain = Estimate.exact(6.0, "log10 of the gain (sums of squares)")
    assert phrase(gain, style=TERMINAL, before="12") == "gain 12 -> 1e6, as sums of squares"
