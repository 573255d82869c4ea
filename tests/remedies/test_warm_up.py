"""Warm-up and schedule: when they are prescribed, and what their code does."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from gradaudit.probes.outlook import scheduled
from gradaudit.records import Measurements, RateRange, Recipe
from tests.remedies.pasted import ids, paste, prescription, remedy
from tests.rules.literal import (
    DIVERGES,
    FALLS,
    FLAT,
    data,
    estimate,
    measurements,
    module,
    parameter,
    stage,
    weight,
)

ADAM = Recipe("adam", 1e-2, steps=1000)
RESCUED = replace(DIVERGES, rescued_by_rate=1e-3, optimizer="adam")


def thrown_about(recipe: Recipe = ADAM, ratio: float = 0.9, **changes: Any) -> Measurements:
    """GA605 and nothing else: no rate was found, the first steps are too large."""
    return measurements(
        **{
            "recipe": recipe,
            "rehearsal": replace(FLAT, optimizer="adam"),
            "parameters": (parameter("layers.0.weight", update_ratio=estimate(ratio)),),
            "weights": (weight(0, 1.0),),
            **changes,
        }
    )


def post_norm(layers: int, **changes: Any) -> dict[str, Any]:
    """Residual stages of two layer norms, the last of which makes what leaves the stage."""
    stages, modules = [stage(0)], [module("layers.0", "Linear")]
    for i in range(1, layers + 1):
        name = f"layers.{i}"
        inside = tuple(f"{name}.{part}" for part in ("attend", "norm1", "feed", "norm2"))
        stages.append(stage(i, residual=True, modules=(*inside, name), output_rms=1.0))
        modules += [
            module(each, "LayerNorm" if "norm" in each else "Linear", output_rms=0.5 + 0.5 * last)
            for each, last in zip(inside, (False, False, False, True), strict=True)
        ]
        modules.append(module(name, "Layer"))
    return {"stages": tuple(stages), "modules": tuple(modules), **changes}


def test_first_steps_that_are_too_large_are_warmed_up_under_adam() -> None:
    made = remedy(thrown_about(), "warm-up")
    assert made.for_codes == ("GA605",)
    written = prescription(thrown_about()).recipe
    assert (written["warmup_steps"], written["schedule"]) == (100, "cosine")
    assert "over 100 steps and lower it along a cosine over all 1000" in made.title


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (thrown_about(replace(ADAM, optimizer="sgd")), "descent has nothing that must settle"),
        (thrown_about(replace(ADAM, warmup=10)), "it warms up already"),
        (thrown_about(ratio=1e-7), "the steps are too small"),
        (thrown_about(data=(data(std=1e5),)), "something else fails"),
        (thrown_about(rehearsal=FALLS), "nothing is found"),
    ],
)
def test_a_warm_up_is_not_prescribed_where(seen: Measurements, why: str) -> None:
    assert "warm-up" not in ids(seen), why


def test_a_rate_that_held_from_its_first_step_needs_none_but_in_a_post_norm_net() -> None:
    seen = measurements(recipe=ADAM, rehearsal=RESCUED)
    assert ids(seen) == ["learning-rate"]
    assert ids(replace(seen, **post_norm(2))) == ["learning-rate", "warm-up"]
    ranged = RateRange("sgd", (1e-3, 1.0), (2.3, 9.0), ceiling=0.1, steepest=0.03)
    descent = measurements(
        recipe=Recipe("sgd", 1.0), rehearsal=DIVERGES, rate_range=ranged, **post_norm(2)
    )
    assert "warm-up" in ids(descent)


@pytest.mark.parametrize(
    ("betas", "steps", "warmup"),
    [((0.9, 0.98), 10_000, 100), ((0.9, 0.999), 10_000, 1000), (None, 10**5, 2000), (None, 5, 1)],
)
def test_its_length(betas: tuple[float, float] | None, steps: int, warmup: int) -> None:
    seen = thrown_about(replace(ADAM, betas=betas, steps=steps))
    assert remedy(seen, "warm-up").parameters["warmup_steps"] == warmup


@pytest.mark.parametrize("schedule", [None, "constant", "linear", "cosine"])
def test_the_code_follows_the_schedule_that_the_audit_follows(schedule: str | None) -> None:
    recipe = replace(ADAM, steps=200, schedule=schedule)
    made = remedy(thrown_about(recipe), "warm-up")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = paste(made.code, optimizer=optimizer)["schedule"]
    meant = replace(recipe, warmup=20, schedule=schedule or "cosine")
    for step in range(210):
        assert math.isclose(optimizer.param_groups[0]["lr"], scheduled(meant, step), abs_tol=1e-12)
        optimizer.step()
        scheduler.step()
