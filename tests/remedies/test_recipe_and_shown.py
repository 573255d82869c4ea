"""Remedies for data and clip, the recipe dict, and what is only shown."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
import torch
from torch import nn

from gradaudit.records import Estimate, GradientNorm, NonFinite, Recipe
from gradaudit.remedies import all_remedies, prescribe
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from tests.remedies.pasted import ids, paste, prescription, remedy
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FLAT,
    chain,
    data,
    loss,
    measurements,
    parameter,
    recurrent,
)

KEYS = {
    *("optimizer", "lr", "momentum", "betas", "eps", "weight_decay", "clip_norm"),
    *("warmup_steps", "schedule", "loss_scale", "input", "target"),
}
NOTHING = {"shift": None, "scale": None}


def test_every_remedy_is_discovered_and_documented() -> None:
    found = all_remedies()
    assert {"initialization", "clipping", "learning_rate", "data_scaling"} <= {
        each.name for each in found
    }
    assert [each.order for each in found] == sorted(each.order for each in found)
    assert all(each.doc.strip() for each in found)


def test_nothing_is_prescribed_where_nothing_is_found_or_missing() -> None:
    sound = measurements(rehearsal=FALLS)
    assert prescribe((), sound, Settings()) == (None, ())


def test_findings_carry_the_ids_of_their_remedies_and_notes_carry_none() -> None:
    seen = measurements(
        **chain(10.0), data=(data(std=1e4, normalized_by_model=True),), rehearsal=FLAT
    )
    made, findings = prescribe(run_rules(seen, Settings()), seen, Settings())
    assert made is not None
    assert {f.code: f.remedies for f in findings} == {"GA101": ("skip-connections",), "GA501": ()}
    assert made.proof is None


# --- data


def test_data_is_standardised_by_numbers() -> None:
    seen = measurements(
        data=(data(mean=290.0, std=10.0), data("target", mean=5e3, std=100.0)),
        loss=loss("mse"),
        rehearsal=FLAT,
    )
    assert ids(seen) == ["input-scaling", "target-scaling"]
    recipe = prescription(seen).recipe
    assert recipe["input"] == {"shift": 290.0, "scale": 10.0}
    assert recipe["target"] == {"shift": 5000.0, "scale": 100.0}
    x = 290 + 10 * torch.randn(10_000, 8)
    scaled = paste(remedy(seen, "input-scaling").code, x=x)["x"]
    assert abs(float(scaled.mean())) < 0.02
    assert float(scaled.std()) == pytest.approx(1.0, abs=0.02)
    y = 5e3 + 100 * torch.randn(1000, 1)
    names = paste(remedy(seen, "target-scaling").code, y=y.clone())
    assert torch.allclose(names["y"] * names["SCALE"] + names["SHIFT"], y, atol=1e-2)


def test_features_are_standardised_one_by_one_where_they_are_known() -> None:
    row = data(std=5e3, feature_means=(0.0, 1e4, 7.0), feature_stds=(1.0, 500.0, 0.0))
    made = remedy(measurements(data=(row,), rehearsal=FLAT), "input-scaling")
    assert made.parameters["input"] == {"shift": [0.0, 1e4, 7.0], "scale": [1.0, 500.0, 1.0]}
    x = torch.tensor([[1.0, 10_500.0, 7.0]])
    assert paste(made.code, x=x)["x"].tolist() == [[1.0, 1.0, 0.0]]


def test_a_second_input_stays_advice() -> None:
    row = data(std=1e4, tensor="input 'price'")
    recipe = prescription(measurements(data=(row,), rehearsal=FLAT)).recipe
    assert recipe["input"] == NOTHING


# --- clip


RATE = Estimate(0.05, 0.02, 0.14, "share of steps clipped")


def norms(batches: int, **changes: object) -> GradientNorm:
    found = GradientNorm(
        batches, 1.0, 3.0, 6.0, 80.0, "heavy",
        clip_threshold=6.12345, clip_basis=f"95% quantile of {batches} batches", clip_rate=RATE,
    )  # fmt: skip
    return replace(found, **changes)


def test_the_threshold_is_the_measured_one_with_its_clip_rate() -> None:
    rehearsal = replace(FALLS, gradient_norms=(1.0, 1.0, 1.0, 9.0))
    made = remedy(measurements(gradient_norm=norms(60), rehearsal=rehearsal), "clipping")
    assert made.parameters["clip_norm"] == 6.123
    assert made.parameters["basis"] == "95% quantile of 60 batches"
    rate = {"value": 0.05, "low": 0.02, "high": 0.14, "unit": "share of steps clipped"}
    assert made.parameters["expected_clip_rate"] == rate
    rehearsed = made.parameters["rehearsed_clip_rate"]
    assert (rehearsed["value"], rehearsed["low"] < 0.25 < rehearsed["high"]) == (0.25, True)
    assert "2% to 14% of batches like these will be clipped" in made.title
    assert "constant" not in made.title
    silent = replace(FALLS, gradient_norms=())
    bare = remedy(measurements(gradient_norm=norms(60), rehearsal=silent), "clipping")
    assert bare.parameters["rehearsed_clip_rate"] is None
    nothing = norms(60, clip_threshold=None)
    assert "clipping" not in ids(measurements(gradient_norm=nothing, rehearsal=FALLS))


@pytest.mark.parametrize(
    ("optimizer", "effect"), [("sgd", "is a cut of the learning rate"), ("adamw", "nearly cancels")]
)
def test_a_threshold_that_would_cut_every_rehearsed_step_says_so(
    optimizer: str, effect: str
) -> None:
    grown = replace(FALLS, gradient_norms=(30.0,) * 16, optimizer=optimizer)
    made = remedy(measurements(gradient_norm=norms(60), rehearsal=grown), "clipping")
    assert "100% of the steps: there clipping is constant" in made.title
    assert effect in made.title


def test_the_clip_is_pasted_before_the_step() -> None:
    seen = measurements(gradient_norm=norms(59), rehearsal=FLAT)
    model = nn.Linear(64, 64)
    (1e4 * model(torch.ones(1, 64))).sum().backward()
    paste(remedy(seen, "clipping").code, model=model)
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert float(total) == pytest.approx(6.123, rel=1e-3)
    assert prescription(seen).recipe["clip_norm"] == 6.123


def test_the_norms_of_an_explosion_are_no_threshold() -> None:
    seen = measurements(recurrent=(recurrent(16.0),), gradient_norm=norms(59, median=1e9))
    made = remedy(seen, "clipping")
    assert made.parameters["clip_norm"] == 1.0
    assert "heuristic" in made.parameters["basis"]
    small = measurements(recurrent=(recurrent(16.0),), gradient_norm=norms(6, median=0.1))
    assert remedy(small, "clipping").parameters["clip_norm"] == 0.2


def test_clipping_is_never_prescribed_for_vanishing_gradients() -> None:
    for seen in (
        measurements(
            recurrent=(recurrent(-40.0),), rehearsal=FLAT, gradient_norm=norms(6, tail="light")
        ),
        measurements(**chain(0.1), rehearsal=FLAT, gradient_norm=norms(6, tail="light")),
    ):
        assert run_rules(seen, Settings())
        assert "clipping" not in ids(seen)


def test_a_tight_clip_is_loosened_and_a_sound_one_left() -> None:
    tight = replace(
        FLAT, clip_rate=Estimate(1.0, 0.84, 1.0, "share"), gradient_norms=(1.0, 1.0, 1.1)
    )
    recipe = Recipe(optimizer="sgd", lr=0.1, clip_norm=0.01)
    light = norms(6, tail="light")
    seen = measurements(recipe=recipe, rehearsal=tight, gradient_norm=light)
    assert prescription(seen).recipe["clip_norm"] == 6.123
    clipped = measurements(recipe=replace(recipe, clip_norm=1.0), recurrent=(recurrent(16.0),))
    assert "clipping" not in ids(clipped)


def test_spikes_call_for_a_clip_also_where_no_recipe_was_given() -> None:
    assert ids(measurements(recipe=Recipe(), gradient_norm=norms(59))) == ["clipping"]
    assert ids(measurements(recipe=Recipe(), gradient_norm=norms(59, tail="light"))) == []


# --- what is only shown


def test_cut_off_parameters_are_frozen_where_it_is_meant() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    rows = tuple(
        parameter(name, connected=name.startswith("1")) for name, _ in model.named_parameters()
    )
    made = remedy(measurements(parameters=rows), "reconnection")
    paste(made.code, model=model)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_non_finite_weights_are_listed() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    bad = NonFinite("weights", "", "1", 0, parameter="1.weight")
    made = remedy(measurements(nonfinite=(bad,)), "finite-numbers")
    printed = io.StringIO()
    with redirect_stdout(printed):
        paste(made.code, model=model)
    assert printed.getvalue() == "1.weight\n"


def test_start_values_are_not_blamed_for_what_a_step_spoilt() -> None:
    spoilt = NonFinite("weights", "", "0", 0, step=1, parameter="0.weight")
    seen = measurements(rehearsal=replace(DIVERGES, first_nonfinite=spoilt))
    assert [finding.code for finding in run_rules(seen, Settings())] == ["GA001"]
    assert ids(seen) == []


@pytest.mark.parametrize(
    ("buffer", "title"),
    [
        ("body.held", "Give `body.held` (net.py:7) finite values."),
        ("", "Give the constant (net.py:7) finite values."),
    ],
)
def test_a_buffer_or_constant_is_to_be_made_finite(buffer: str, title: str) -> None:
    bad = NonFinite("constant", "add", "body", 0, parameter=buffer, file="net.py", line=7)
    assert remedy(measurements(nonfinite=(bad,)), "finite-numbers").title == title


def test_an_operation_that_overflows_is_named() -> None:
    seen = measurements(nonfinite=(NonFinite("forward", "log", "head", 0),))
    made = remedy(seen, "finite-numbers")
    assert "`log` in `head`" in made.title
    try:
        paste(made.code)
        assert torch.is_anomaly_enabled()
    finally:
        torch.autograd.set_detect_anomaly(False)


# --- recipe.json


def test_the_recipe_has_every_key_of_the_contract_and_nulls() -> None:
    seen = measurements(data=(data(std=1e4),), rehearsal=FLAT)
    recipe = prescription(seen).recipe
    assert set(recipe) == KEYS
    assert recipe["target"] == NOTHING
    assert all(recipe[key] is None for key in KEYS - {"input", "target"})
    assert json.loads(json.dumps(recipe)) == recipe


def test_what_is_only_shown_stays_out_of_the_recipe() -> None:
    seen = measurements(**chain(10.0), rehearsal=FLAT)
    made = prescription(seen)
    assert {each.safety for each in made.remedies} == {"changes architecture: shown, not applied"}
    assert set(map(str, made.recipe.values())) == {"None", str(NOTHING)}
