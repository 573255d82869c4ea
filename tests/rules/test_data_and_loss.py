"""GA001, GA104, GA501, GA502, GA503."""

from dataclasses import replace

import pytest

from gradaudit.records import NonFinite, Recipe, SampleRow
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FALLS_ABOVE_CONSTANT,
    FLAT,
    GIVEN,
    MADE_UP,
    TRAINED,
    check,
    data,
    estimate,
    loss,
    measurements,
    only,
    parameter,
    recurrent,
    stage,
)

LOG = NonFinite("forward", "log", "head", 2)


# --- GA001


def test_only_the_first_producer_is_named() -> None:
    passed_on = NonFinite("loss", "mul", "", 0)
    finding = only("GA001", measurements(nonfinite=(LOG, passed_on), rehearsal=FALLS))
    assert finding.severity == "fail"
    assert "`log` in `head`, call 2" in finding.why
    assert finding.where.module == "head"


def test_non_finite_weights_are_named_by_parameter() -> None:
    bad = NonFinite("weights", "", "body", 0, parameter="body.weight")
    finding = only("GA001", measurements(nonfinite=(bad,)))
    assert "`body.weight`" in finding.why
    assert finding.where.parameter == "body.weight"


def test_a_buffer_or_constant_is_named_with_its_first_taker() -> None:
    bad = NonFinite("constant", "add", "body", 0, parameter="body.held", file="net.py", line=7)
    finding = only("GA001", measurements(nonfinite=(bad,)))
    assert finding.where.parameter == "body.held"
    assert "The buffer `body.held` holds a NaN or an infinity, and `add` in `body`" in finding.why
    assert "net.py:7" in finding.why
    unnamed = only("GA001", measurements(nonfinite=(replace(bad, parameter=""),)))
    assert unnamed.why.startswith("A constant of the model holds")


def test_a_weight_that_a_step_spoilt_is_not_called_a_start_value() -> None:
    spoilt = NonFinite("weights", "", "0", 0, step=1, parameter="0.weight")
    seen = measurements(rehearsal=replace(DIVERGES, first_nonfinite=spoilt))
    why = only("GA001", seen).why
    assert "optimizer's step 1 of the rehearsal made the weight `0.weight` non-finite" in why
    assert "before anything has run" not in why


def test_a_nan_in_the_rehearsal_counts_unless_the_rate_is_to_blame_or_ours() -> None:
    later = replace(DIVERGES, first_nonfinite=replace(LOG, step=7))
    assert "At step 7" in only("GA001", measurements(rehearsal=later)).why
    assert check("GA001", measurements(rehearsal=replace(later, rescued_by_rate=1e-3))) == []
    assert check("GA001", measurements(rehearsal=replace(later, prescribed=True))) == []


# --- GA104


@pytest.mark.parametrize(
    ("cut_off", "severity"), [(0, None), (1, "warn"), (2, "warn"), (3, "fail")]
)
def test_disconnected_parameters(cut_off: int, severity: str | None) -> None:
    rows = tuple(parameter(f"body.{i}.weight", connected=i >= cut_off) for i in range(4))
    found = check("GA104", measurements(parameters=rows, rehearsal=FALLS))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if found:
        assert f"{cut_off} of 4 trainable parameter tensors" in found[0].why
        assert found[0].measured.value == cut_off / 4


def test_frozen_parameters_are_not_disconnected() -> None:
    rows = (parameter("a", trainable=False, connected=False), parameter("b"))
    assert check("GA104", measurements(parameters=rows)) == []


# --- GA501 and GA502

CODES = [("GA501", "input"), ("GA502", "target")]


@pytest.mark.parametrize(("code", "role"), CODES)
class TestScale:
    @pytest.mark.parametrize(
        ("mean", "std", "severity"),
        [
            (0, 1, None),
            (0.5, 0.3, None),  # an image in [0, 1]
            (9, 3, None),
            (0, 1e4, "fail"),
            (290, 10, "fail"),
            (0, 30, "warn"),
            (0, 1e-4, "warn"),
            (5, 0.1, "warn"),  # an offset that hides the variation
            (1, 0.01, None),  # no more than a bias
            (5, 0, None),  # a constant
            (0, 0, None),
        ],
    )
    def test_scale_and_offset(
        self, code: str, role: str, mean: float, std: float, severity: str | None
    ) -> None:
        seen = measurements(data=(data(role, mean, std),), loss=loss("mse"), rehearsal=FLAT)
        found = check(code, seen)
        assert [finding.severity for finding in found] == ([severity] if severity else [])

    def test_the_worst_feature_decides(self, code: str, role: str) -> None:
        worst = {"worst_feature": 3, "worst_feature_mean": 2e3, "worst_feature_std": 100.0}
        finding = only(code, measurements(data=(data(role, 0.1, 1.0, **worst),)))
        assert f"Feature 3 of the {role} has mean 2000 and standard deviation 100" in finding.why
        assert finding.measured.value == pytest.approx(2002.5, abs=0.1)

    def test_a_rehearsal_that_trains_softens(self, code: str, role: str) -> None:
        seen = measurements(data=(data(role, std=1e4),), rehearsal=FALLS)
        assert only(code, seen).severity == "warn"

    def test_made_up_data_integers_and_masks_are_not_judged(self, code: str, role: str) -> None:
        bad = data(role, std=1e4)
        assert check(code, measurements(data=(bad,), sample=MADE_UP)) == []
        for row in (replace(bad, dtype="int64"), replace(bad, tensor=f"{role} 'mask'")):
            assert check(code, measurements(data=(row,))) == []


def test_input_that_the_model_normalises_is_a_note() -> None:
    finding = only("GA501", measurements(data=(data(std=1e4, normalized_by_model=True),)))
    assert finding.severity == "note"
    assert "normalise it" in finding.why


REHEARSED = replace(FALLS_ABOVE_CONSTANT, optimizer="adamw", prescribed=True)
ADAPTS = {"rehearsal": FALLS_ABOVE_CONSTANT, "recipe": Recipe(optimizer="adam", lr=1e-3)}


@pytest.mark.parametrize(
    ("mean", "std", "changes", "severity"),
    [
        (127, 53, {}, "warn"),  # pixels
        (0, 2e3, {}, "warn"),
        (0, 2e3, {"recipe": Recipe(optimizer="sgd", lr=1e-3)}, "fail"),
        (0, 2e3, {"recipe": Recipe(), "rehearsal": REHEARSED}, "warn"),  # none given: rehearsed
        (0, 2e3, {"recipe": Recipe("sgd"), "rehearsal": REHEARSED}, "fail"),
        (0, 2e3, {"rehearsal": FLAT}, "fail"),
        (0, 2e3, {"recurrent": (recurrent(0.0),)}, "fail"),  # gates saturate for good
        (0, 1e4, {}, "fail"),
        (2e3, 400, {}, "fail"),  # an offset of 5
    ],
)
def test_adam_makes_up_for_some_scale(
    mean: float, std: float, changes: dict, severity: str
) -> None:
    seen = measurements(
        **{"data": (data("input", mean, std),), "loss": loss(initial=13.0), **ADAPTS, **changes}
    )
    for code in ("GA501", "GA503"):  # the loss at the start follows from the inputs
        assert only(code, seen).severity == severity
        assert ("divides by the gradient's size" in only(code, seen).why) == (severity == "warn")


def test_a_wild_start_on_sound_inputs_is_not_excused() -> None:
    for row in (data(), data(std=2e3, normalized_by_model=True)):
        seen = measurements(data=(row,), loss=loss(initial=13.0), **ADAPTS)
        assert only("GA503", seen).severity == "fail"


def test_real_inputs_are_judged_also_where_the_target_is_made_up() -> None:
    half = SampleRow("given", "made up", 1, 32, "inputs only")
    rows = (data(std=1e4), data("target", std=1e4))
    assert only("GA501", measurements(data=rows, sample=half)).severity == "fail"
    assert check("GA502", measurements(data=rows, sample=half)) == []


@pytest.mark.parametrize(
    ("kind", "severities"),
    [
        ("mse", ["fail"]),
        ("custom (loss)", ["warn"]),
        ("bce_with_logits", []),
        ("cross_entropy", []),
    ],
)
def test_targets_are_judged_by_the_loss(kind: str, severities: list[str]) -> None:
    seen = measurements(data=(data("target", std=1e4),), loss=loss(kind), rehearsal=FLAT)
    assert [finding.severity for finding in check("GA502", seen)] == severities


# --- GA503


@pytest.mark.parametrize(
    ("initial", "severity"), [(2.4, None), (4.0, "warn"), (12.0, "fail"), (257.0, "fail")]
)
def test_initial_loss(initial: float, severity: str | None) -> None:
    head = stage(4, role="head")
    seen = measurements(loss=loss(initial=initial), stages=(head,), rehearsal=FLAT)
    found = check("GA503", seen)
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if found:
        assert found[0].where.module == "layers.4"
        assert "among 10 classes" in found[0].why


def test_initial_loss_judges_the_near_end() -> None:
    noisy = loss(initial=13.0, chance=2.3)
    noisy = replace(noisy, initial=estimate(13.0, 2.4, 30.0))
    assert only("GA503", measurements(loss=noisy)).severity == "note"


def test_initial_loss_is_softened_and_silent_where_it_means_nothing() -> None:
    off = loss(initial=257.0)
    assert only("GA503", measurements(loss=off, rehearsal=FALLS)).severity == "warn"
    assert only("GA503", measurements(loss=off, sample=MADE_UP)).severity == "warn"
    assert check("GA503", measurements(loss=off, sample=MADE_UP, state=TRAINED)) == []
    assert only("GA503", measurements(loss=off, sample=GIVEN, state=TRAINED)).severity == "fail"
    assert check("GA503", measurements(loss=replace(off, chance=None))) == []
