"""Verdict, exit code, forecast and headline on literal findings and measurements."""

from dataclasses import replace

import pytest

from gradaudit.forecast import forecast
from gradaudit.gate import cause, first_sentence, verdict
from gradaudit.records import (
    Finding,
    Forecast,
    Measurements,
    NonFinite,
    NotMeasured,
    Recipe,
    SampleRow,
    StateRow,
    exit_code,
)
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FALLS_ABOVE_CONSTANT,
    FLAT,
    MADE_UP,
    NONE,
    chain,
    data,
    estimate,
    loss,
    measurements,
    parameter,
    recurrent,
    weight,
)

SETTINGS = Settings()
SOUND = measurements(**chain(0.9), rehearsal=FALLS)
EXPLODING = measurements(
    **chain(10.0), weights=tuple(weight(i, 64.0) for i in range(20)), rehearsal=FLAT
)


def found(seen: Measurements) -> tuple[Finding, ...]:
    return run_rules(seen, SETTINGS)


def judged(seen: Measurements, missing: tuple[NotMeasured, ...] = ()) -> str:
    return verdict(found(seen), seen, missing, SETTINGS)


WARNS = replace(
    SOUND, parameters=(parameter("unused", connected=False), parameter("a"), parameter("b"))
)


# --- verdict


def test_the_worst_finding_decides() -> None:
    assert judged(SOUND) == "pass"
    assert judged(WARNS) == "warn"
    assert judged(EXPLODING) == "fail"


def test_notes_do_not_matter() -> None:
    noted = replace(SOUND, data=(data(std=1e4, normalized_by_model=True),))
    assert [finding.severity for finding in found(noted)] == ["note"]
    assert judged(noted) == "pass"


def test_weights_alone_are_inconclusive_unless_one_fails() -> None:
    alone = measurements(sample=NONE, weights=(weight(0, 1.0),))
    assert judged(alone) == "inconclusive"
    bad = replace(alone, nonfinite=(NonFinite("weights", "", "a", 0, parameter="a.weight"),))
    assert judged(bad) == "fail"
    norm = replace(alone, weights=(weight(0, 1.0, spectral_norm=estimate(40.0)),))
    assert [finding.severity for finding in found(norm)] == ["warn"]
    assert judged(norm) == "inconclusive"


def test_a_made_up_sample_judges_architecture_and_weights() -> None:
    assert judged(replace(SOUND, sample=MADE_UP, rehearsal=None)) == "pass"
    assert judged(replace(EXPLODING, sample=MADE_UP, rehearsal=None)) == "fail"


def test_a_time_loop_alone_is_enough_on_made_up_data() -> None:
    seen = measurements(sample=MADE_UP, recurrent=(recurrent(0.0),))
    assert judged(seen) == "pass"
    assert judged(measurements(sample=MADE_UP)) == "inconclusive"


def test_real_data_needs_a_rehearsal() -> None:
    seen = replace(SOUND, rehearsal=None)
    assert judged(seen) == "inconclusive"
    assert judged(replace(EXPLODING, rehearsal=None)) == "fail"
    inputs_only = SampleRow("given", "none", 1, 32, "inputs only")
    assert judged(replace(seen, sample=inputs_only)) == "pass"


# --- exit code


@pytest.mark.parametrize(
    ("outcome", "on_fail", "on_warn"),
    [("pass", 0, 0), ("warn", 0, 1), ("fail", 1, 1), ("inconclusive", 3, 3)],
)
def test_exit_codes(outcome: str, on_fail: int, on_warn: int) -> None:
    assert exit_code(outcome) == exit_code(outcome, "fail") == on_fail
    assert exit_code(outcome, "warn") == on_warn
    assert exit_code(outcome, "never") == 0


# --- forecast


def foreseen(seen: Measurements) -> Forecast:
    return forecast(found(seen), seen)


def test_without_real_data_nothing_is_foreseen() -> None:
    for sample in (MADE_UP, NONE):
        assert foreseen(replace(EXPLODING, sample=sample)) == Forecast("unknown", 0.0)
    assert foreseen(replace(SOUND, rehearsal=None)).outcome == "unknown"


def test_a_rehearsal_that_falls_trains() -> None:
    assert foreseen(SOUND) == Forecast("trains", 0.88)
    assert foreseen(replace(SOUND, rehearsal=FALLS_ABOVE_CONSTANT)) == Forecast("trains", 0.55)
    ours = replace(FALLS, prescribed=True)
    assert foreseen(replace(SOUND, rehearsal=ours)).confidence < 0.88
    assert foreseen(WARNS).outcome == "trains"


def test_a_rehearsal_that_diverges_diverges() -> None:
    assert foreseen(replace(SOUND, rehearsal=DIVERGES)) == Forecast("diverges", 0.97, ("GA603",))
    hot = replace(SOUND, rehearsal=replace(DIVERGES, rescued_by_rate=1e-3), recipe=Recipe(lr=1.0))
    assert foreseen(hot) == Forecast("diverges", 0.97, ("GA601",))
    nan = replace(DIVERGES, first_nonfinite=NonFinite("forward", "exp", "a", 0, step=2))
    assert foreseen(replace(SOUND, rehearsal=nan)).because == ("GA001",)


def test_a_rate_of_ours_that_diverges_foresees_nothing_by_itself() -> None:
    ours = replace(DIVERGES, prescribed=True)
    assert foreseen(replace(SOUND, recipe=Recipe(), rehearsal=ours)) == Forecast("unknown", 0.0)
    assert judged(replace(SOUND, recipe=Recipe(), rehearsal=ours)) == "pass"
    exploding = replace(EXPLODING, recipe=Recipe(), rehearsal=ours)
    assert foreseen(exploding) == Forecast("diverges", 0.77, ("GA101",))


def test_a_rehearsal_that_stays_stalls() -> None:
    assert foreseen(replace(SOUND, rehearsal=FLAT)) == Forecast("stalls", 0.77)
    vanishing = replace(SOUND, **chain(0.1), rehearsal=FLAT)
    assert foreseen(vanishing) == Forecast("stalls", 0.97, ("GA102",))


def test_findings_speak_where_the_rehearsal_is_undecided() -> None:
    exploding = replace(EXPLODING, rehearsal=None)
    assert foreseen(exploding) == Forecast("diverges", 0.77, ("GA101",))
    alive = replace(EXPLODING, rehearsal=FALLS_ABOVE_CONSTANT)
    assert foreseen(alive) == Forecast("stalls", 0.77, ("GA101", "GA302"))
    for rehearsal in (FALLS_ABOVE_CONSTANT, None):
        vanishing = replace(SOUND, **chain(0.1), rehearsal=rehearsal)
        assert foreseen(vanishing) == Forecast("stalls", 0.77, ("GA102",))
    unscaled = replace(SOUND, rehearsal=FALLS_ABOVE_CONSTANT, data=(data(std=1e4),))
    assert foreseen(unscaled) == Forecast("stalls", 0.77, ("GA501",))


# --- the headline


def headline(seen: Measurements, missing: tuple[NotMeasured, ...] = ()) -> str:
    findings = found(seen)
    return cause(findings, verdict(findings, seen, missing, SETTINGS), seen, missing)


def test_growth_is_told_with_the_weights_that_cause_it() -> None:
    assert headline(EXPLODING) == (
        "Gradients grow 3.16x per layer from `layers.20` back to `layers.1`; after 20 layers that "
        "is 10^10. Expect NaN within a few steps. The start weights `layers.0.weight` and 19 more "
        "have 64x the variance that Tanh needs."
    )


def test_data_comes_before_growth_and_non_finite_numbers_before_data() -> None:
    unscaled = replace(EXPLODING, data=(data(mean=290.0, std=10.0),), loss=loss("mse"))
    assert headline(unscaled) == (
        "The input has mean 290 and standard deviation 10, not about 0 and 1. The first layer's "
        "gradients grow or shrink with it."
    )
    nan = replace(unscaled, nonfinite=(NonFinite("forward", "log", "head", 0),))
    assert headline(nan) == (
        "`log` in `head` makes a NaN or infinity out of finite numbers (forward). The first step "
        "would spread it to every weight it reaches."
    )


def test_a_warning_is_told_where_nothing_fails() -> None:
    assert headline(WARNS) == (
        "The loss does not reach 1 of 3 trainable parameter tensors (33% of the parameters): "
        "`unused`. No optimizer step will ever change them."
    )


def test_a_pass_says_what_it_rests_on() -> None:
    assert headline(SOUND) == (
        "Nothing was found that keeps this model from training: gradients keep their size within "
        "a factor 2.87 over 20 stages and the loss goes from 2.3 to 1.4 in 20 rehearsed steps."
    )
    made_up = headline(replace(SOUND, sample=MADE_UP))
    assert made_up.endswith("; the sample is made up, so data and recipe are not judged.")
    assert "rehearsed" not in made_up


def test_an_inconclusive_audit_gives_the_reason_on_record() -> None:
    missing = (NotMeasured("Jacobian growth", "the model", "there is no code for the weights."),)
    alone = measurements(sample=NONE)
    assert headline(alone, missing) == (
        "Too little could be measured to judge: only the weights could be read (Jacobian growth: "
        "there is no code for the weights)."
    )
    assert headline(alone) == (
        "Too little could be measured to judge: only the weights could be read."
    )
    sound = replace(alone, weights=(weight(0, 1.0),), state=StateRow("trained", "said"))
    assert headline(sound).endswith(
        "read. Of 1 weight measured, taken as learned, none calls for a change."
    )
    unrehearsed = replace(SOUND, rehearsal=None)
    assert "not rehearsed." in headline(unrehearsed, missing)
    told = (*missing, NotMeasured("rehearsal", "the model", "the time was up"))
    assert "not rehearsed (rehearsal: the time was up)" in headline(unrehearsed, told)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("It grows 3.1x in `layers.4`. Expect NaN.", "It grows 3.1x in `layers.4`."),
        ("Only one.", "Only one."),
        ("No stop", "No stop"),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_the_headline_says_what_to_expect_unless_training_says_otherwise() -> None:
    assert "Expect NaN within a few steps." in headline(EXPLODING)
    trains = replace(EXPLODING, rehearsal=SOUND.rehearsal)
    said = headline(trains)
    assert "Expect NaN" not in said
    assert "The rehearsal trains all the same" in said
