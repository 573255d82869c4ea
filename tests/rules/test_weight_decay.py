"""GA607."""

from dataclasses import replace
from typing import Any

import pytest

from gradaudit.records import Measurements, ParameterRow, Recipe
from tests.rules.literal import (
    FALLS,
    MADE_UP,
    TRAINED,
    chain,
    check,
    estimate,
    measurements,
    only,
    parameter,
)

SGD = Recipe("sgd", 0.1, weight_decay=0.3)
ADAM = Recipe("adam", 1e-3, weight_decay=0.3)
ADAMW = Recipe("adamw", 1e-3, weight_decay=30.0)


def rows(weight: float = 30.0, gradient: float | None = 1.0) -> tuple[ParameterRow, ...]:
    """10,000 entries; the whole net's norms are 5 / 4 of what is given."""
    return tuple(
        parameter(
            f"p{i}",
            weight_norm=share * weight,
            gradient_norm=None if gradient is None else estimate(share * gradient),
            size=size,
        )
        for i, (share, size) in enumerate([(1.0, 9000), (0.75, 1000)])
    )


def decaying(recipe: Recipe, **changes: Any) -> Measurements:
    return measurements(**{"recipe": recipe, "parameters": rows(), "rehearsal": FALLS, **changes})


@pytest.mark.parametrize("recipe", [SGD, ADAM, replace(SGD, optimizer="rmsprop")])
@pytest.mark.parametrize(
    ("decay", "severity"), [(0.3, None), (0.1, None), (0.5, "fail"), (0.2, "warn")]
)
def test_decay_in_the_gradient_is_held_against_the_gradient(
    recipe: Recipe, decay: float, severity: str | None
) -> None:
    if severity is None:
        assert check("GA607", decaying(replace(recipe, weight_decay=decay / 3))) == []
        return
    finding = only("GA607", decaying(replace(recipe, weight_decay=decay)))
    assert finding.severity == severity
    assert finding.measured.value == pytest.approx(30 * decay)
    assert "as hard on the weights as the loss does" in finding.why


@pytest.mark.parametrize(("decay", "severity"), [(30.0, "fail"), (10.0, "warn")])
def test_decay_beside_the_step_is_held_against_the_step(decay: float, severity: str) -> None:
    recipe = replace(ADAMW, weight_decay=decay)
    finding = only("GA607", decaying(recipe))
    assert (finding.severity, finding.limit.unit) == (severity, "decay x rms of the weights")
    assert finding.measured.value == pytest.approx(0.375 * decay)
    assert check("GA607", decaying(recipe, parameters=rows(gradient=1e-9)))  # its size is no matter


@pytest.mark.parametrize(
    "recipe",
    [
        *(Recipe("adamw", lr, weight_decay=decay) for lr in (1e-4, 1e-2) for decay in (0.01, 0.1)),
        *(
            Recipe("sgd", lr, 0.9, weight_decay=decay)
            for lr in (0.01, 0.1)
            for decay in (1e-4, 5e-4)
        ),
        *(Recipe("adam", lr, weight_decay=decay) for lr in (1e-4, 1e-2) for decay in (1e-5, 5e-4)),
        Recipe("sgd", 0.1),
        Recipe("sgd", 0.1, weight_decay=0.0),
        Recipe("sgd", weight_decay=0.3),
    ],
)
def test_customary_recipes_are_silent_also_over_many_steps(recipe: Recipe) -> None:
    wide = rows(weight=200.0, gradient=0.3)
    assert check("GA607", decaying(replace(recipe, steps=10**6), parameters=wide)) == []


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (replace(SGD, lr=1e-3), {}),  # its 1000 steps take a quarter off the weights
        (replace(ADAM, lr=1e-5), {}),
        (replace(ADAMW, lr=1e-6), {}),
        (SGD, {"parameters": rows(gradient=None)}),
        (SGD, {"parameters": rows(gradient=0.0)}),
        (SGD, {"state": TRAINED}),  # a minimum has no gradient
        (SGD, chain(0.1)),  # gradients that vanish are GA102
        (SGD, {"parameters": (replace(rows()[0], trainable=False),)}),
    ],
)
def test_what_decay_is_not_to_blame_for(recipe: Recipe, changes: dict[str, Any]) -> None:
    assert check("GA607", decaying(recipe, **changes)) == []


def test_momentum_lengthens_the_steps_of_decay_too() -> None:
    assert check("GA607", decaying(replace(SGD, weight_decay=0.5, lr=1e-3))) == []
    assert check("GA607", decaying(replace(SGD, weight_decay=0.5, lr=1e-3, momentum=0.9)))


def test_on_made_up_data_it_only_warns() -> None:
    seen = decaying(replace(SGD, weight_decay=0.5), sample=MADE_UP)
    assert only("GA607", seen).severity == "warn"
