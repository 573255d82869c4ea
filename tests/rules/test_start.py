"""GA301, GA302, GA401 to GA404: what is wrong with the weights and units at the start."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gradaudit.records import NonFinite, Recipe
from gradaudit.rules._initialization import NEEDED, activation_key, needed_variance
from tests.rules.literal import (
    FALLS,
    FLAT,
    GIVEN,
    MADE_UP,
    NONE,
    TRAINED,
    attention,
    chain,
    check,
    estimate,
    measurements,
    module,
    only,
    parameter,
    recurrent,
    stage,
    weight,
)

# --- GA301


@pytest.mark.parametrize(
    ("low", "high", "severity"), [(250, 260, "fail"), (30, 40, "warn"), (15, 25, "note")]
)
def test_spectral_norm_is_judged_by_its_lower_end(low: float, high: float, severity: str) -> None:
    row = weight(3, 1.0, spectral_norm=estimate(low + 1, low, high))  # the critical edge is 2
    finding = only("GA301", measurements(weights=(row,)))
    assert finding.severity == severity
    assert finding.measured.low == low / 2
    assert finding.where.parameter == "layers.3.weight"


def test_sound_or_unmeasured_spectral_norms_are_silent() -> None:
    rows = (weight(0, 1.0), weight(1, 1.0, spectral_norm=None), weight(2, 1.0, critical_edge=None))
    assert check("GA301", measurements(weights=rows)) == []


def test_spectral_norm_tells_one_direction_from_many_and_is_softened() -> None:
    row = weight(0, 1.0, spectral_norm=estimate(300.0), stable_rank=1.1)
    assert "one direction stands out" in only("GA301", measurements(weights=(row,))).why
    assert only("GA301", measurements(weights=(row,), rehearsal=FALLS)).severity == "warn"
    bag = measurements(weights=(row,), sample=NONE, state=TRAINED)
    assert only("GA301", bag).severity == "note"  # trained nets that work have as much
    huge = replace(row, spectral_norm=estimate(8e3))
    # no loss shows that these weights work
    assert only("GA301", replace(bag, weights=(huge,))).severity == "fail"
    row = replace(row, stable_rank=20.0)
    assert "many directions" in only("GA301", measurements(weights=(row,), sample=NONE)).why


def test_a_frozen_weight_that_stretches_is_only_told() -> None:
    row = weight(0, 1.0, spectral_norm=estimate(300.0))
    given = measurements(weights=(row,), sample=NONE)
    for trainable, severity in ((True, "fail"), (False, "note")):
        used = parameter(row.parameter, trainable=trainable)
        assert only("GA301", replace(given, parameters=(used,))).severity == severity


# --- GA302


def mean_square(function) -> float:
    z = np.linspace(-12, 12, 400_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float((density * function(z) ** 2).sum() * (z[1] - z[0]))


def softplus(z: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, z)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("leakyrelu", lambda z: np.where(z > 0, z, 0.01 * z)),
        ("elu", lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0)))),
        ("silu", lambda z: z / (1 + np.exp(-z))),
        ("mish", lambda z: z * np.tanh(softplus(z))),
        ("hardswish", lambda z: z * np.clip(z + 3, 0, 6) / 6),
        (
            "selu",
            lambda z: (
                1.0507009873554805
                * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))
            ),
        ),
    ],
)
def test_needed_variance_keeps_the_mean_square(name: str, function) -> None:
    assert NEEDED[name] * mean_square(function) == pytest.approx(1.0, abs=2e-5)


def test_activations_are_known_by_module_function_and_graph_names() -> None:
    for name in ("LeakyReLU", "leaky_relu", "torch.nn.LeakyReLU", "LeakyReluBackward0"):
        assert activation_key(name) == "leakyrelu"
    assert needed_variance("") == 1.0
    assert needed_variance("Softmax") is None


def test_names_variance_against_what_the_activation_needs() -> None:
    weights = tuple(weight(i, 64.0) for i in range(20))
    finding = only("GA302", measurements(**chain(10.0), weights=weights))
    assert finding.severity == "fail"
    assert "have 64x the variance that Tanh needs. Variance x fan_in is 64" in finding.why
    assert "and 19 more have" in finding.why
    assert finding.measured.value == pytest.approx(64.0)


def test_is_blamed_only_together_with_growth_in_the_same_direction() -> None:
    large = tuple(weight(i, 64.0) for i in range(20))
    small = tuple(weight(i, 1 / 3, activation="ReLU") for i in range(20))
    assert check("GA302", measurements(**chain(1.0), weights=large)) == []
    assert check("GA302", measurements(**chain(0.1), weights=large)) == []
    finding = only("GA302", measurements(**chain(1 / 6), weights=small))
    assert "0.333 there, not 2" in finding.why
    assert finding.measured.value == pytest.approx(1 / 6)
    assert finding.limit.value < 1


def test_takes_the_severity_of_the_growth_and_is_silent_on_learned_weights() -> None:
    faulty = measurements(**chain(10.0), weights=(weight(1, 64.0),))
    assert only("GA302", replace(faulty, rehearsal=FALLS)).severity == "warn"
    assert check("GA302", replace(faulty, state=TRAINED)) == []


def test_weights_whose_scale_a_norm_undoes_are_not_blamed() -> None:
    normed = tuple(stage(i, 10.0, modules=(f"layers.{i}", f"norms.{i}")) for i in range(20))
    norms = tuple(module(f"norms.{i}", "BatchNorm1d") for i in range(20))
    weights = tuple(weight(i, 64.0) for i in range(20))
    seen = measurements(**{**chain(10.0), "stages": normed}, weights=weights, modules=norms)
    assert check("GA302", seen) == []
    assert check("GA302", replace(seen, modules=())) != []


@pytest.mark.parametrize(
    "row",
    [
        weight(1, 2.0, activation=""),  # He, before an activation that was not seen
        weight(1, 64.0, activation="Softmax"),
        weight(1, 1.05),
        weight(1, 1.5, shape=(4, 4), fan_in=4, rms=(1.5 / 4) ** 0.5),  # sixteen entries scatter
        weight(1, 64.0, kind="embedding"),
    ],
)
def test_weights_that_may_be_right_are_not_blamed(row: object) -> None:
    assert check("GA302", measurements(**chain(10.0), weights=(row,))) == []


def test_a_fixed_weight_is_not_blamed() -> None:
    fixed = (parameter("layers.1.weight", trainable=False),)
    seen = measurements(**chain(10.0), weights=(weight(1, 64.0),), parameters=fixed)
    assert check("GA302", seen) == []


def test_recurrent_weights_are_blamed_for_growth_through_time() -> None:
    row = weight(0, 6.25, parameter="rnn.weight_hh_l0", module="rnn", kind="recurrent", type="RNN")
    seen = measurements(recurrent=(recurrent(16.0),), weights=(row,), rehearsal=FLAT)
    finding = only("GA302", seen)
    assert (finding.severity, finding.where.parameter) == ("fail", "rnn.weight_hh_l0")
    assert "6.25x the variance that Tanh needs" in finding.why
    assert only("GA302", replace(seen, rehearsal=FALLS)).severity == "warn"
    forgets = replace(
        seen, recurrent=(recurrent(-20.0),), weights=(replace(row, rms=(1 / 3 / 64) ** 0.5),)
    )
    assert only("GA302", forgets).severity == "fail"
    assert only("GA302", replace(forgets, rehearsal=FALLS)).severity == "note"
    gated = replace(row, type="LSTM", activation="")
    assert check("GA302", replace(seen, weights=(gated,))) == []


def test_identical_units_stay_identical() -> None:
    rows = (weight(0, 1.0, identical_rows=True), weight(1, 1.0))
    finding = only("GA302", measurements(weights=rows))
    assert finding.severity == "fail"
    assert "stay one unit for ever" in finding.why
    assert only("GA302", measurements(weights=rows, rehearsal=FALLS)).severity == "warn"


def test_symmetry_is_not_asked_of_heads_single_units_and_fixed_kernels() -> None:
    alike = weight(1, 1.0, identical_rows=True)
    for rows in (
        (weight(0, 1.0), alike),  # the last one
        (replace(alike, shape=(1, 64)), weight(2, 1.0)),
        (replace(alike, kind="other"), weight(2, 1.0)),
    ):
        assert check("GA302", measurements(weights=rows)) == []
    fixed = (parameter("layers.1.weight", trainable=False),)
    rows = (alike, weight(2, 1.0))
    assert check("GA302", measurements(weights=rows, parameters=fixed)) == []


def test_one_zero_weight_is_a_start_and_two_are_a_block() -> None:
    zero = [weight(i, 0.0, identical_rows=True) for i in range(2)]
    stages = {"stages": tuple(stage(i) for i in range(4))}
    one = (zero[0], weight(2, 1.0), weight(3, 1.0))
    two = (*zero, weight(3, 1.0))
    assert check("GA302", measurements(weights=one, **stages)) == []
    finding = only("GA302", measurements(weights=two, **stages))
    assert finding.severity == "fail"
    assert "all zero" in finding.why
    assert only("GA302", measurements(weights=two, sample=NONE)).severity == "warn"
    branches = {"stages": tuple(stage(i, residual=True) for i in range(4))}
    assert check("GA302", measurements(weights=two, **branches)) == []


# --- GA401 and GA402


def relu(share: float, **changes: object) -> object:
    return module("act", "ReLU", dead_fraction=share, **changes)


@pytest.mark.parametrize(("share", "severity"), [(1.0, "fail"), (0.95, "fail"), (0.7, "warn")])
def test_dead_units(share: float, severity: str) -> None:
    finding = only("GA401", measurements(modules=(relu(share),), rehearsal=FLAT))
    assert finding.severity == severity
    assert f"{share:.0%} of the units of `act` are silent" in finding.why
    assert finding.measured.value == finding.measured.high == share


def test_dead_units_are_softened_by_training_and_made_up_data() -> None:
    dead = measurements(modules=(relu(1.0),))
    assert only("GA401", replace(dead, rehearsal=FALLS)).severity == "warn"
    assert only("GA401", replace(dead, sample=MADE_UP)).severity == "warn"
    assert only("GA401", replace(dead, state=TRAINED)).severity == "warn"


@pytest.mark.parametrize(("batch", "share"), [(1, 0.55), (1, 0.9), (4, 0.6), (32, 0.4)])
def test_units_silent_by_chance_on_a_small_batch_do_not_count(batch: int, share: float) -> None:
    few = replace(GIVEN, batch_size=batch)
    found = check("GA401", measurements(modules=(relu(share),), sample=few))
    assert [finding for finding in found if finding.severity != "note"] == []
    assert batch > 1 or found == []


def test_a_layer_all_silent_is_dead_on_any_batch() -> None:
    few = replace(GIVEN, batch_size=1)
    assert only("GA401", measurements(modules=(relu(1.0),), sample=few)).severity == "fail"


def test_calls_of_one_module_are_one_finding() -> None:
    calls = (relu(0.6), relu(0.96, call=1), relu(0.2, call=2))
    finding = only("GA401", measurements(modules=(*calls, module("other", "ReLU"))))
    assert finding.where.call == 1
    assert "`act` (call 1)" in finding.why


@pytest.mark.parametrize(
    ("share", "severity"), [(0.99, "fail"), (0.6, "warn"), (0.505, "note"), (0.3, None)]
)
def test_saturated_units(share: float, severity: str | None) -> None:
    rows = (module("act", "Tanh", saturated_fraction=share),)
    found = check("GA402", measurements(modules=rows, rehearsal=FLAT))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_saturation_is_softened_where_training_works() -> None:
    rows = (module("act", "Tanh", saturated_fraction=0.99),)
    assert only("GA402", measurements(modules=rows, rehearsal=FALLS)).severity == "warn"
    assert only("GA402", measurements(modules=rows, sample=MADE_UP)).severity == "warn"


# --- GA403


@pytest.mark.parametrize(
    ("share", "severity"),
    [(0.0, "warn"), (0.08, "warn"), (0.099, "note"), (0.101, None), (0.27, None), (1.0, None)],
)
def test_collapsed_attention(share: float, severity: str | None) -> None:
    findings = check("GA403", measurements(attention=(attention(share),), rehearsal=FLAT))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_collapsed_attention_names_the_worst_call_and_counts_the_others() -> None:
    rows = (
        attention(0.06, module="a"),
        attention(0.01, module="b", call=2, largest_logit=412.0),
        attention(0.02, module="b"),
        attention(0.9, module="c"),
        attention(None, module="d"),
    )
    finding = only("GA403", measurements(attention=rows, rehearsal=FLAT))
    assert (finding.where.module, finding.where.call) == ("b", 2)
    assert "`b` look at one key each (logits up to 412)" in finding.why
    assert "1% of what their 64 keys allow, and 1 other layer the same" in finding.why


def test_few_queries_are_no_evidence_of_collapse() -> None:
    one = replace(GIVEN, batch_size=1)
    short = attention(0.02, queries=2, keys=2, heads=1)
    doubtful = measurements(attention=(short,), sample=one, rehearsal=FLAT)
    assert only("GA403", doubtful).severity == "note"
    sure = measurements(attention=(attention(0.0),), sample=one, rehearsal=FLAT)
    assert only("GA403", sure).severity == "warn"


def test_collapsed_attention_is_judged_at_the_start_only_and_softened() -> None:
    seen = measurements(attention=(attention(0.0),))
    assert check("GA403", replace(seen, state=TRAINED)) == []
    assert only("GA403", replace(seen, rehearsal=FALLS)).severity == "note"
    assert only("GA403", replace(seen, sample=MADE_UP)).severity == "note"


# --- GA404


def layers(*spread: float | None, rank: tuple[float, ...] = (), limit: int = 31) -> tuple:
    """Dense layers whose samples' outputs are that far from the same; the last is the head."""
    ranks = rank or (9.0,) * len(spread)
    return tuple(
        module(
            f"layers.{i}",
            "Linear",
            sample_correlation=None if s is None else 1.0 - s,
            effective_rank=r,
            rank_limit=limit,
        )
        for i, (s, r) in enumerate(zip(spread, ranks, strict=True))
    )


def test_samples_that_become_the_same_with_depth() -> None:
    seen = measurements(modules=layers(0.9, 0.01, 1e-4, 1e-5, 1e-6), rehearsal=FLAT)
    finding = only("GA404", seen)
    assert (finding.severity, finding.where.module) == ("warn", "layers.2")
    assert finding.measured.value == pytest.approx(1e-4)
    assert "differ by 1e-4 in cosine from `layers.2` on" in finding.why
    assert only("GA404", replace(seen, rehearsal=FALLS)).severity == "note"
    assert only("GA404", replace(seen, state=TRAINED)).severity == "note"
    assert only("GA404", replace(seen, sample=MADE_UP)).severity == "note"


def test_an_adaptive_optimizer_lives_with_more() -> None:
    def by(optimizer: str, *spread: float) -> list:
        recipe = Recipe(optimizer=optimizer, lr=1e-3)
        return check("GA404", measurements(modules=layers(*spread), recipe=recipe))

    assert by("adam", 0.9, 1e-4, 1e-5) == []
    assert len(by("sgd", 0.9, 1e-4, 1e-5)) == 1
    assert len(by("adam", 0.9, 1e-7, 0.0)) == 1


@pytest.mark.parametrize(
    "rows",
    [
        layers(0.9, 0.1, 0.05),  # positive activations are alike by nature
        layers(1e-5, 1e-5, 1e-6),  # the data itself
        layers(0.9, 0.1, 1e-5),  # the head alone, which may start from a bias
        layers(0.9, 1e-5, 1e-5, 0.5),  # a branch, after which samples differ again
        layers(0.9, 0.5, 1e-5, 1e-6, limit=1),  # one unit: any two outputs are on a line
        layers(None, None, None),
        layers(0.9, 0.1, 0.1, rank=(2.0, 1.1, 1.0)),  # data on a line
        layers(0.9, 0.1, 0.1, rank=(9.0, 1.1, 5.0)),
        (  # an autoencoder that leaves one number on purpose
            *layers(0.9, 0.2, rank=(9.0, 4.0)),
            replace(layers(0.5, rank=(1.0,), limit=1)[0], module="code"),
            *layers(None, None, 0.1, 0.1, rank=(1.0, 1.0, 1.0, 1.0)),
        ),
    ],
)
def test_sound_representations_are_silent(rows: tuple) -> None:
    assert check("GA404", measurements(modules=rows, rehearsal=FLAT)) == []


def test_samples_that_end_up_on_a_line() -> None:
    rows = layers(0.9, 0.2, 0.01, 0.01, rank=(12.0, 4.0, 1.2, 1.1))
    finding = only("GA404", measurements(modules=rows, rehearsal=FLAT))
    assert finding.where.module == "layers.2"
    assert "effective rank 1.2 of 31, 12 in the first" in finding.why


def test_containers_are_not_counted_as_layers() -> None:
    inner = layers(0.9, 0.1, 1e-6)
    rows = (*inner, replace(inner[-1], module="layers"), replace(inner[-1], module=""))
    assert check("GA404", measurements(modules=rows)) == []


# --- GA001: where it was called


def test_the_line_of_a_non_finite_producer_is_named() -> None:
    root = NonFinite("backward", "sqrt", "norm", 0, None, "inlet.weight", "model.py", 41)
    finding = only("GA001", measurements(nonfinite=(root,)))
    assert (finding.where.file, finding.where.line) == ("model.py", 41)
    assert finding.where.parameter == ""  # the parameter is a victim, not the place
    assert "`sqrt` in `norm`, called at model.py:41, makes" in finding.why
    assert "first of all to `inlet.weight`" in finding.why
    later = replace(FLAT, first_nonfinite=replace(root, step=7))
    assert "model.py:41" in only("GA001", measurements(rehearsal=later)).why
    labels = NonFinite("loss", "nll_loss", "", 0)
    assert "`nll_loss` in the loss makes" in only("GA001", measurements(nonfinite=(labels,))).why


@pytest.mark.parametrize(("rms", "gain"), [(1e250, 10.0), (1e-250, 0.1)])
def test_variances_beyond_floats_are_judged_all_the_same(rms: float, gain: float) -> None:
    off = replace(weight(0, 9.0), rms=rms)
    finding = only("GA302", measurements(**chain(gain), weights=(off,)))
    assert finding.where.parameter == off.parameter
    assert math.isfinite(finding.measured.value)
