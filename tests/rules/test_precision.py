"""The rules about half precision, on literal forecasts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gradaudit.records import Estimate, HalfRow, Measurements, Precision, Recipe
from tests.rules.literal import FALLS, FLAT, MADE_UP, check, estimate, measurements, only

FP16 = HalfRow("fp16", 12.0, "head", (), 0.5, estimate(0.0), estimate(0.0), None, None, "addmm")
BF16 = replace(FP16, format="bf16", underflow_scaled=None)
CODES = ("GA701", "GA702", "GA703", "GA704")


def seen(
    asked: str | None = "fp16",
    *,
    weights: str = "float32",
    scale: float | None = 4096.0,
    eps: float | None = None,
    rehearsal: Any = None,
    sample: Any = None,
    **changes: Any,
) -> Measurements:
    """A recipe in that precision whose forecast has these entries in both rows."""
    rows = (replace(FP16, **changes), replace(BF16, **changes))
    regime = "autocast" if weights == "float32" else "pure"
    precision = Precision(asked, scale, rows, regime, weights, eps)
    found = measurements(recipe=Recipe("adam", 1e-3, precision=asked), precision=precision)
    found = found if sample is None else replace(found, sample=sample)
    return found if rehearsal is None else replace(found, rehearsal=rehearsal)


OVERFLOW: dict[str, Any] = {
    "largest_activation": 66246.0,
    "largest_activation_at": "body.3",
    "overflows_in": ("body.3", "head"),
    "overflow_spreads": True,
}
LOST: dict[str, Any] = {
    "underflow": estimate(0.3),
    "underflow_scaled": estimate(0.001),
    "underflow_at": "body.0",
}
STILL: dict[str, Any] = {"lost_updates": estimate(0.9, 0.85, 0.93)}
EVERYTHING: dict[str, Any] = {**OVERFLOW, **LOST, **STILL, "eps_flushed": True}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("asked", [None, "fp32"])
def test_silent_where_half_precision_is_not_asked_for(code: str, asked: str | None) -> None:
    assert check(code, seen(asked, eps=1e-8, **EVERYTHING)) == []
    assert check(code, seen(asked)) == []


@pytest.mark.parametrize("asked", ["fp16", "bf16"])
@pytest.mark.parametrize("code", CODES)
def test_silent_on_a_sound_run(code: str, asked: str) -> None:
    assert check(code, seen(asked, eps=1e-4, lost_updates=estimate(0.3))) == []


@pytest.mark.parametrize(
    ("asked", "weights", "codes"),
    [
        ("fp16", "float32", {"GA701": "fail", "GA702": "warn", "GA704": "note"}),
        ("bf16", "float32", {"GA703": "note"}),
        ("fp16", "float16", {"GA701": "fail", "GA702": "warn", "GA704": "fail"}),
        (None, "float16", {"GA701": "fail", "GA702": "warn", "GA704": "fail"}),
        (None, "bfloat16", {"GA703": "warn"}),
    ],
)
def test_the_format_that_is_trained_in_is_judged(
    asked: str | None, weights: str, codes: dict[str, str]
) -> None:
    faulty = seen(asked, weights=weights, eps=1e-8, **EVERYTHING)
    found = {f.code: f.severity for code in CODES for f in check(code, faulty)}
    assert found == codes


# --- GA701


@pytest.mark.parametrize(
    ("largest", "spreads", "severity"),
    [
        (66246.0, True, "fail"),
        (66246.0, None, "fail"),  # there was no loss to follow it to
        (66246.0, False, "note"),
        (65530.0, True, "note"),  # rounding could go either way
        (65500.0, None, "note"),
        (65000.0, None, None),
    ],
)
def test_overflow_fails_where_it_is_past_rounding_and_reaches_the_loss(
    largest: float, spreads: bool | None, severity: str | None
) -> None:
    changes = {**OVERFLOW, "largest_activation": largest, "overflow_spreads": spreads}
    found = check("GA701", seen(**changes))
    assert [f.severity for f in found] == ([severity] if severity else [])


def test_overflow_names_the_first_module_the_number_and_the_end_of_the_range() -> None:
    found = only("GA701", seen(**OVERFLOW))
    assert found.where.module == "body.3"
    assert found.measured.value == 66246.0
    assert found.limit.value == 65520.0
    for part in ("66246", "`body.3`", "`head`", "65504", "`addmm`"):
        assert part in found.why
    in_loss = only("GA701", seen(**{**OVERFLOW, "overflows_in": ("the loss",)}))
    assert in_loss.where.module == ""


def test_what_made_up_data_shows_only_warns() -> None:
    assert only("GA701", seen(sample=MADE_UP, **OVERFLOW)).severity == "warn"
    assert only("GA702", seen(sample=MADE_UP, **LOST)).severity == "note"


@pytest.mark.parametrize(("lost", "severity"), [(0.001, "warn"), (0.4, "fail")])
def test_gradients_that_overflow_fail_where_no_scale_holds_both_ends(
    lost: float, severity: str
) -> None:
    found = only(
        "GA701", seen(scale=2.0**-8, largest_gradient=1e6, underflow_scaled=estimate(lost))
    )
    assert found.severity == severity
    assert "2^-8" in found.why
    assert ("40%" in found.why) == (severity == "fail")


# --- GA702


@pytest.mark.parametrize(
    ("share", "fires"), [(0.3, True), (0.051, True), (0.05, False), (0.0, False)]
)
def test_underflow_warns_past_its_limit(share: float, fires: bool) -> None:
    found = check("GA702", seen(**{**LOST, "underflow": estimate(share)}))
    assert [f.severity for f in found] == (["warn"] if fires else [])


def test_underflow_names_the_scale_and_what_it_leaves() -> None:
    found = only("GA702", seen(**LOST))
    assert found.where.module == "body.0"
    assert "30%" in found.why
    assert "scale of 4096 leaves 0.1%" in found.why
    worse = only("GA702", seen(scale=2.0**30, **{**LOST, "underflow_scaled": estimate(0.2)}))
    assert "scale of 2^30 still loses 20%" in worse.why
    alone = only("GA702", seen(scale=None, **{**LOST, "underflow_scaled": None}))
    assert alone.why.endswith("`body.0`.")


# --- GA703


@pytest.mark.parametrize(
    ("share", "severities"),
    [
        (estimate(0.9, 0.6, 0.95), ["warn"]),
        (Estimate(0.6, 0.4, 0.7, "test"), ["note"]),
        (estimate(0.4), []),
        (None, []),
    ],
)
def test_lost_updates_warn_where_most_are_surely_lost(share: Any, severities: list[str]) -> None:
    found = check("GA703", seen("bf16", weights="bfloat16", lost_updates=share))
    assert [f.severity for f in found] == severities
    assert all(f.severity == "note" for f in check("GA703", seen("bf16", lost_updates=share)))


# --- GA704


@pytest.mark.parametrize(
    ("eps", "flushed", "weights", "severity"),
    [
        (1e-8, True, "float16", "fail"),
        (1e-6, False, "float16", "warn"),
        (1e-4, False, "float16", None),
        (None, None, "float16", None),
        (1e-8, True, "float32", "note"),
        (1e-6, False, "float32", None),
    ],
)
def test_eps_is_judged_where_the_weights_are_in_fp16(
    eps: float | None, flushed: bool | None, weights: str, severity: str | None
) -> None:
    for rehearsal in (None, FLAT):
        found = check(
            "GA704", seen(weights=weights, eps=eps, eps_flushed=flushed, rehearsal=rehearsal)
        )
        assert [f.severity for f in found] == ([severity] if severity else [])


def test_a_rehearsal_in_fp16_that_trains_softens_the_verdict_on_eps() -> None:
    found = only("GA704", seen(weights="float16", eps=1e-8, eps_flushed=True, rehearsal=FALLS))
    assert found.severity == "warn"
