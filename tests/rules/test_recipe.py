"""GA601, GA602, GA603, GA605, GA606, GA611, GA612."""

from dataclasses import replace

import pytest

from gradaudit.records import Estimate, GradientNorm, NonFinite, RateRange, Recipe
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
    measurements,
    only,
    parameter,
    recurrent,
    weight,
)

RANGE = RateRange("sgd", (1e-4, 1e-2, 1.0), (2.3, 2.0, 9.0), ceiling=0.1, steepest=0.03)
HOT, COLD = Recipe(optimizer="sgd", lr=1.0), Recipe(optimizer="sgd", lr=1e-7)
RESCUED = replace(DIVERGES, rescued_by_rate=0.01)


# --- GA601


def test_a_rate_that_diverges_and_a_lower_one_that_falls() -> None:
    finding = only("GA601", measurements(recipe=HOT, rehearsal=RESCUED))
    assert finding.severity == "fail"
    assert (finding.measured.value, finding.limit.value) == (1.0, 0.01)
    assert (
        "The rate 1 is too high: the rehearsal diverges, and at 0.01 its loss falls" in finding.why
    )


def test_the_step_and_operation_that_overflowed_are_named() -> None:
    nan = NonFinite("forward", "exp", "head", 0, step=4)
    why = only(
        "GA601", measurements(recipe=HOT, rehearsal=replace(RESCUED, first_nonfinite=nan))
    ).why
    assert "`exp` in `head` at step 4" in why


def test_a_rate_above_the_ceiling_where_the_loss_does_not_fall() -> None:
    finding = only("GA601", measurements(recipe=HOT, rehearsal=FLAT, rate_range=RANGE))
    assert (finding.severity, finding.limit.value) == ("fail", 0.1)
    assert check("GA601", measurements(recipe=HOT, rehearsal=FALLS, rate_range=RANGE)) == []


@pytest.mark.parametrize(
    ("rate", "losses", "severity"),
    [
        (0.5, (2.3, 2.35), "warn"),  # above 0.1, below 1, where the test saw it break
        (0.5, (2.3, 8.0, 2.4), "fail"),
        (1.0, (2.3, 2.35), "fail"),
    ],
)
def test_a_plateau_between_two_tested_rates_is_a_warning(
    rate: float, losses: tuple[float, ...], severity: str
) -> None:
    seen = measurements(
        recipe=Recipe(optimizer="sgd", lr=rate),
        rehearsal=replace(FLAT, losses=losses),
        rate_range=RANGE,
    )
    assert only("GA601", seen).severity == severity


def test_a_rate_is_not_blamed_for_what_no_rate_mends() -> None:
    assert check("GA601", measurements(recipe=HOT, rehearsal=DIVERGES)) == []


@pytest.mark.parametrize("code", ["GA601", "GA602"])
def test_a_rate_that_was_not_given_is_not_judged(code: str) -> None:
    for rehearsal in (RESCUED, replace(FLAT, projected_fall=0.0)):
        ours = replace(rehearsal, prescribed=True)
        for recipe in (HOT, COLD):
            assert check(code, measurements(recipe=recipe, rehearsal=ours, rate_range=RANGE)) == []
        unsaid = measurements(recipe=Recipe(), rehearsal=rehearsal, rate_range=RANGE)
        assert check(code, unsaid) == []


def test_on_made_up_data_a_rate_only_warns() -> None:
    seen = measurements(recipe=HOT, rehearsal=RESCUED, sample=MADE_UP)
    assert only("GA601", seen).severity == "warn"


# --- GA602

SLOW = replace(FALLS_ABOVE_CONSTANT, projected_fall=0.001)


def test_a_rate_so_low_that_the_loss_stays() -> None:
    finding = only("GA602", measurements(recipe=COLD, rehearsal=SLOW, rate_range=RANGE))
    assert finding.severity == "fail"
    assert (finding.measured.value, finding.limit.value) == (0.001, 0.05)
    assert "1000 steps take 0.1% off the loss" in finding.why


@pytest.mark.parametrize(
    "changes",
    [
        {"rehearsal": replace(SLOW, projected_fall=0.5)},
        {"rehearsal": replace(SLOW, projected_fall=None)},
        {"rehearsal": replace(SLOW, outcome="diverges")},
        {"recipe": Recipe(lr=0.01)},  # within a tenth of the best: something else is wrong
    ],
)
def test_both_signs_of_a_low_rate_are_needed(changes: dict) -> None:
    low = {"recipe": COLD, "rehearsal": SLOW, "rate_range": RANGE}
    assert check("GA602", measurements(**{**low, **changes})) == []


@pytest.mark.parametrize("unknown", [None, replace(RANGE, ceiling=None, steepest=None)])
def test_without_a_range_test_a_low_rate_is_a_warning(unknown: RateRange | None) -> None:
    finding = only("GA602", measurements(recipe=COLD, rehearsal=SLOW, rate_range=unknown))
    assert finding.severity == "warn"
    assert "falls fastest" not in finding.why


def test_a_tenth_of_the_ceiling_stands_in_for_the_steepest() -> None:
    only_ceiling = replace(RANGE, steepest=None)
    seen = measurements(recipe=COLD, rehearsal=SLOW, rate_range=only_ceiling)
    assert "near 0.01" in only("GA602", seen).why


def test_a_loss_that_the_data_keeps_up_is_not_blamed_on_the_rate() -> None:
    low = measurements(recipe=COLD, rehearsal=SLOW, rate_range=RANGE, data=(data(std=1e4),))
    assert only("GA602", low).severity == "note"


def test_a_low_rate_on_learned_weights_is_a_note() -> None:
    seen = measurements(recipe=COLD, rehearsal=SLOW, rate_range=RANGE, state=TRAINED)
    assert only("GA602", seen).severity == "note"
    made_up = measurements(recipe=COLD, rehearsal=SLOW, rate_range=RANGE, sample=MADE_UP)
    assert only("GA602", made_up).severity == "warn"


# --- GA605


def moving(**ratios: Estimate | None) -> dict:
    """A model whose weights (and a bias) have these update ratios."""
    rows = tuple(parameter(name, update_ratio=ratio) for name, ratio in ratios.items())
    shapes = {name: (8,) if "bias" in name else (8, 8) for name in ratios}
    weights = tuple(weight(0, 1.0, parameter=n, shape=s) for n, s in shapes.items())
    return {"parameters": rows, "weights": weights}


def test_weights_that_are_thrown_about_where_the_rehearsal_diverges() -> None:
    ratios = {"stem": estimate(0.01), "head": estimate(0.9), "body": estimate(0.3)}
    seen = measurements(recipe=HOT, rehearsal=DIVERGES, **moving(**ratios))
    finding = only("GA605", seen)
    assert finding.severity == "warn"
    assert (finding.where.parameter, finding.measured.value) == ("head", 0.9)
    assert finding.limit.value == 0.1
    assert "2 weights of 3 change by more than 0.1" in finding.why
    assert "`head` and `body`; 0.9 at the far end" in finding.why
    assert "loss diverges" in finding.why
    assert check("GA605", replace(seen, rehearsal=FALLS)) == []
    assert check("GA605", replace(seen, rehearsal=replace(DIVERGES, prescribed=True))) == []
    assert check("GA605", replace(seen, rehearsal=None)) == []


def test_weights_that_hardly_move_where_the_loss_stays() -> None:
    ratios = {"stem": estimate(1e-7), "head": estimate(1e-3), "body": estimate(1e-6)}
    seen = measurements(recipe=COLD, rehearsal=FLAT, **moving(**ratios))
    finding = only("GA605", seen)
    assert (finding.severity, finding.where.parameter) == ("warn", "stem")
    assert "2 weights of 3 change by less than 1e-5" in finding.why
    assert "hardly falls" in finding.why
    assert check("GA605", replace(seen, rehearsal=DIVERGES)) == []  # not for want of a step
    assert check("GA605", replace(seen, state=TRAINED)) == []
    slow = replace(FALLS_ABOVE_CONSTANT, projected_fall=0.01)
    assert only("GA605", replace(seen, rehearsal=slow)).severity == "warn"
    fast = replace(FALLS_ABOVE_CONSTANT, projected_fall=0.9)
    assert check("GA605", replace(seen, rehearsal=fast)) == []
    blamed = replace(seen, data=(data(std=1e4),))
    assert only("GA605", blamed).severity == "note"


def test_few_steps_are_a_note_and_biases_and_gains_are_left_alone() -> None:
    unsure = Estimate(0.9, None, None, "test")
    seen = measurements(recipe=HOT, rehearsal=DIVERGES, **moving(head=unsure))
    assert only("GA605", seen).severity == "note"
    sides = moving(bias=estimate(5.0), head=estimate(0.01), lost=None)
    assert check("GA605", measurements(recipe=HOT, rehearsal=DIVERGES, **sides)) == []


# --- GA606


def test_a_batch_far_below_the_noise_scale_is_a_note() -> None:
    noise = Estimate(3200.0, 1000.0, None, "samples")
    finding = only("GA606", measurements(noise_scale=noise))
    assert finding.severity == "note"
    assert (finding.measured.value, finding.measured.low, finding.measured.high) == (
        *(100.0, 31.25),
        None,
    )
    assert "32 samples is 1.0% signal: the noise scale is 3200 samples" in finding.why
    for quiet in (
        {"noise_scale": replace(noise, low=600.0)},
        {"noise_scale": noise, "sample": MADE_UP},
        {"noise_scale": noise, "sample": replace(GIVEN, batch_size=None)},
        {"noise_scale": None},
    ):
        assert check("GA606", measurements(**quiet)) == []


# --- GA611

SPIKES = GradientNorm(30, 1.0, 3.0, 20.0, 80.0, "heavy")


def test_spikes_without_a_clip() -> None:
    finding = only("GA611", measurements(gradient_norm=SPIKES))
    assert finding.severity == "warn"
    assert "80 times the median" in finding.why
    for light in (replace(SPIKES, tail="light"), replace(SPIKES, max=5.0)):
        assert check("GA611", measurements(gradient_norm=light)) == []


def test_explosion_through_time_without_a_clip() -> None:
    finding = only("GA611", measurements(recurrent=(recurrent(16.0),), gradient_norm=SPIKES))
    assert finding.where.module == "rnn"
    assert "10^8 through the 41 steps" in finding.why
    assert check("GA611", measurements(recurrent=(recurrent(-16.0),))) == []


def test_a_clip_or_no_recipe_at_all_is_not_judged() -> None:
    for recipe in (Recipe(lr=0.1, clip_norm=1.0), Recipe()):
        seen = measurements(recipe=recipe, gradient_norm=SPIKES, recurrent=(recurrent(16.0),))
        assert check("GA611", seen) == []


# --- GA612

ALL = Estimate(1.0, 0.84, 1.0, "share of steps")
TIGHT = replace(FLAT, clip_rate=ALL, gradient_norms=(2.0, 1.0, 0.5))
CLIP = Recipe(optimizer="sgd", lr=0.1, clip_norm=0.01)


@pytest.mark.parametrize(
    ("optimizer", "rehearsal", "severity"),
    [
        ("sgd", TIGHT, "fail"),
        ("sgd", replace(TIGHT, outcome="falls"), "warn"),
        ("adam", TIGHT, "warn"),
        ("AdamW", replace(TIGHT, outcome="falls"), "note"),
    ],
)
def test_a_clip_that_cuts_every_step(optimizer: str, rehearsal: object, severity: str) -> None:
    recipe = replace(CLIP, optimizer=optimizer)
    seen = measurements(recipe=recipe, rehearsal=replace(rehearsal, optimizer=optimizer))
    finding = only("GA612", seen)
    assert finding.severity == severity
    assert finding.measured.value == 0.01
    assert (finding.measured.low, finding.measured.high) == (0.005, 0.02)
    effect = "cuts the learning rate 100 times" if optimizer == "sgd" else "nearly cancels"
    assert effect in finding.why


@pytest.mark.parametrize(
    ("recipe", "rehearsal"),
    [
        (replace(CLIP, clip_norm=None), TIGHT),
        (replace(CLIP, clip_norm=1.0), TIGHT),
        (CLIP, replace(TIGHT, clip_rate=estimate(0.5))),
        (CLIP, replace(TIGHT, clip_rate=None)),
        (CLIP, None),
    ],
)
def test_a_clip_that_is_not_too_tight(recipe: Recipe, rehearsal: object) -> None:
    assert check("GA612", measurements(recipe=recipe, rehearsal=rehearsal)) == []


def test_norms_on_both_sides_of_the_cut_are_a_note_until_the_clip_rate_is_sure() -> None:
    mixed = replace(TIGHT, gradient_norms=(2.0, 1.0, 0.05))
    assert only("GA612", measurements(recipe=CLIP, rehearsal=mixed)).severity == "note"
    sure = replace(mixed, clip_rate=Estimate(0.99, 0.96, 1.0, "share"))
    assert only("GA612", measurements(recipe=CLIP, rehearsal=sure)).severity == "fail"


def test_the_start_distribution_stands_in_for_the_rehearsals() -> None:
    bare = replace(TIGHT, gradient_norms=(), clip_rate=Estimate(0.99, 0.96, 1.0, "share"))
    norms = GradientNorm(6, 1.0, 2.0, 2.0, 2.0, "light")
    seen = measurements(recipe=CLIP, rehearsal=bare, gradient_norm=norms)
    assert only("GA612", seen).severity == "fail"
    assert check("GA612", measurements(recipe=CLIP, rehearsal=bare)) == []


def test_a_divergence_that_nothing_explains_is_a_finding_of_its_own() -> None:
    hot = {"recipe": Recipe(optimizer="sgd", lr=1.0)}
    assert only("GA603", measurements(**hot, rehearsal=DIVERGES)).severity == "fail"
    rescued = replace(DIVERGES, rescued_by_rate=1e-3)
    assert check("GA603", measurements(**hot, rehearsal=rescued)) == []  # GA601 says it
    assert check("GA603", measurements(rehearsal=replace(DIVERGES, prescribed=True))) == []
    assert check("GA603", measurements(**hot, rehearsal=FALLS)) == []


def test_a_divergence_above_the_ceiling_of_the_range_test_is_the_rates() -> None:
    seen = measurements(recipe=HOT, rehearsal=DIVERGES, rate_range=RANGE)
    assert only("GA601", seen).severity == "fail"
    assert check("GA603", seen) == []
    sustained = replace(seen, recipe=Recipe(optimizer="sgd", lr=0.05))
    assert check("GA601", sustained) == []
    assert only("GA603", sustained).severity == "fail"


def test_a_loss_that_is_not_finite_from_the_start_is_not_said_to_leave() -> None:
    broken = replace(DIVERGES, steps=0, losses=(), rates=())
    why = only("GA603", measurements(recipe=HOT, rehearsal=broken)).why
    assert "not finite before the first step" in why
    assert "leaves" not in why


def test_a_tight_clip_that_leaves_too_little_of_the_fall_fails_under_sgd() -> None:
    tight = {"recipe": Recipe(optimizer="sgd", lr=0.01, clip_norm=0.001)}
    clipped = replace(
        FALLS_ABOVE_CONSTANT,
        optimizer="sgd",
        clip_rate=Estimate(1.0, 0.84, 1.0, "share of steps"),
        gradient_norms=(4.0, 4.5, 5.0),
    )
    slow = measurements(**tight, rehearsal=replace(clipped, projected_fall=0.1))
    assert only("GA612", slow).severity == "fail"
    fast = measurements(**tight, rehearsal=replace(clipped, projected_fall=0.9))
    assert only("GA612", fast).severity == "warn"
