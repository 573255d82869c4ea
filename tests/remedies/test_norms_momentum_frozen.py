"""Batch norms that are shifted, weights that are let train, momentum that is lowered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.records import (
    Estimate,
    Finding,
    Limit,
    Measurements,
    ParameterRow,
    Recipe,
    Remedy,
    Where,
)
from gradaudit.remedies import data_scaling, momentum, norm_shift, recipe_of, unfreezing
from gradaudit.rules._outlook import ill
from tests.remedies.pasted import ids, log10_growth, paste, prescription, remedy
from tests.rules.literal import (
    DIVERGES,
    FLAT,
    SETTINGS,
    TRAINED,
    chain,
    data,
    measurements,
    module,
    parameter,
    stage,
)
from tests.rules.outlooks import flat, followed, trial


def found(*codes: str) -> list[Finding]:
    measured, limit = Estimate.exact(1.0, "test"), Limit(0.0, "test", "")
    return [Finding(code, "name", "fail", Where(), measured, limit, "") for code in codes]


def made_by(prescriber: Any, seen: Measurements, *codes: str) -> list[Remedy]:
    return list(prescriber.prescribe(found(*codes), seen, SETTINGS))


# --- norm_shift


def normalised(depth: int = 30, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def rows_of(model: nn.Module, **changes: Any) -> Measurements:
    named = [(name, each) for name, each in model.named_modules() if name]
    return measurements(
        **{
            "modules": tuple(module(name, type(each).__name__) for name, each in named),
            "parameters": tuple(parameter(name) for name, _ in model.named_parameters()),
            **chain(10.0),
            "rehearsal": FLAT,
            **changes,
        }
    )


def test_shifted_batch_norms_let_gradients_through_a_deep_net() -> None:
    model = normalised()
    before = {name: value.clone() for name, value in model.named_parameters()}
    grown = log10_growth(model, 64)  # by pi / (pi - 1) a layer
    assert grown > 0.8 * 30 * math.log10(math.pi / (math.pi - 1))
    made = remedy(rows_of(model), "norm-shift")
    assert "30 batch norms at 2" in made.title
    paste(made.code, model=model)
    assert abs(log10_growth(model, 64)) < 0.3 * grown
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n].to(p))}
    assert changed == set(made.sets) == {f"{3 * i + 1}.bias" for i in range(30)}
    assert all(bool((model.get_parameter(name) == 2).all()) for name in made.sets)
    assert made.for_codes == ("GA101",)


def test_norms_without_a_bias_and_those_in_residual_branches_stay() -> None:
    model = nn.Sequential(*normalised(6))
    model[1] = nn.BatchNorm1d(64, affine=False)
    branch = replace(stage(1), residual=True, modules=("3", "4", "5"))
    usual = chain(10.0)
    seen = rows_of(model, stages=(*usual["stages"], branch), trunk=usual["trunk"])
    again = module("7", "BatchNorm1d", call=1)  # the second call of one of them
    seen = replace(seen, modules=(*seen.modules, again))
    (made,) = made_by(norm_shift, seen, "GA101")
    assert made.parameters["modules"] == ("7", "10", "13", "16")
    paste(made.code, model=model)
    assert float(model[4].bias.detach().abs().max()) == 0.0
    assert float(model[7].bias.detach().min()) == 2.0
    # a net of which no parameters are known
    paste(made_by(norm_shift, replace(seen, parameters=()), "GA101")[0].code, model=model)


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        (rows_of(normalised(6)), ("GA102",)),
        (rows_of(normalised(6), state=TRAINED), ("GA101",)),
        (rows_of(nn.Sequential(*[m for m in normalised(6) if not isinstance(m, nn.ReLU)])),
         ("GA101",)),  # nothing is bent
        (rows_of(normalised(1)), ("GA101",)),
        (rows_of(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU())), ("GA101",)),
    ],
)  # fmt: skip
def test_where_norms_are_left(seen: Measurements, codes: tuple[str, ...]) -> None:
    assert made_by(norm_shift, seen, *codes) == []


# --- unfreezing


def half_frozen() -> tuple[nn.Sequential, tuple[ParameterRow, ...]]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    model[0].requires_grad_(False)
    rows = tuple(
        parameter(name, trainable=value.requires_grad, size=value.numel())
        for name, value in model.named_parameters()
    )
    return model, rows


def test_frozen_random_weights_are_let_train() -> None:
    model, rows = half_frozen()
    before = {name: value.clone() for name, value in model.named_parameters()}
    made = remedy(followed(flat(0.9), parameters=rows), "unfreezing")
    assert made.parameters == {"parameters": ("0.weight", "0.bias")}
    assert "before the optimizer is made" in made.code
    assert "2 frozen parameters" in made.title
    paste(made.code, model=model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_frozen_weights_that_are_learned_or_suffice_stay_frozen() -> None:
    _, rows = half_frozen()
    learned = followed(trial(0.2, 0.4, 0.4, 0.4), parameters=rows, state=TRAINED)
    assert ill(learned)
    assert "unfreezing" not in ids(learned)
    assert "unfreezing" not in ids(followed(flat(0.3), parameters=rows))
    assert made_by(unfreezing, followed(flat(0.9), parameters=rows), "GA104", "GA609") == []


# --- momentum


@pytest.mark.parametrize("code", ["GA601", "GA603", "GA604"])
def test_a_momentum_that_adds_up_too_much_is_lowered(code: str) -> None:
    seen = measurements(recipe=Recipe("sgd", 0.1, momentum=0.99))
    (made,) = made_by(momentum, seen, code)
    assert made.title == "Train with a momentum of 0.9 instead of 0.99."
    assert recipe_of([made])["momentum"] == 0.9
    assert code in made.for_codes
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w]} for w in weights], 0.1, momentum=0.99)
    paste(made.code, optimizer=optimizer)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]


@pytest.mark.parametrize(
    ("given", "code"), [(0.95, "GA601"), (0.9, "GA601"), (None, "GA603"), (0.99, "GA602")]
)
def test_a_customary_momentum_is_left(given: float | None, code: str) -> None:
    seen = measurements(recipe=Recipe("sgd", 0.1, momentum=given))
    assert made_by(momentum, seen, code) == []


def test_it_is_prescribed_beside_the_rate() -> None:
    rescued = replace(DIVERGES, rescued_by_rate=0.01)
    seen = measurements(recipe=Recipe("sgd", 1.0, momentum=0.99), rehearsal=rescued)
    assert {"momentum", "learning-rate"} <= set(ids(seen))
    assert prescription(seen).recipe["momentum"] == 0.9


# --- data_scaling: features of one kind


def scaled(stds: tuple[float, ...]) -> list[float]:
    row = data(std=5e3, feature_means=(0.0,) * len(stds), feature_stds=stds)
    numbers = data_scaling.shift_and_scale(row)[1]
    assert isinstance(numbers, list)
    return numbers


def test_a_pixel_that_hardly_varies_is_divided_by_no_less_than_a_fifth_of_the_others() -> None:
    assert scaled((50.0, 100.0, 100.0, 120.0, 1e-3, 0.0, 19.0)) == [50, 100, 100, 120, 10, 10, 19]
    assert scaled((100.0, 100.0, 500.0, 1.0)) == [100, 100, 500, 20]


@pytest.mark.parametrize(
    "stds",
    [
        (1.0, 2.0, 10.1, 0.001),  # units of their own: 10.1 is over five times 1.5
        (1e-4, 1.0, 1e5),
    ],
)
def test_features_with_units_of_their_own_are_each_divided_by_theirs(
    stds: tuple[float, ...],
) -> None:
    assert scaled(stds) == list(stds)


def test_features_that_do_not_vary_are_only_shifted() -> None:
    assert scaled((0.0, 0.0, 0.0)) == [1.0, 1.0, 1.0]
    assert scaled((0.0, 0.0, 3.0)) == [1.0, 1.0, 3.0]


def test_a_bright_pixel_of_a_dark_column_stays_near() -> None:
    torch.manual_seed(2)
    x = 100 * torch.randn(200, 6)
    x[:, 2] *= 1e-5
    row = data(
        std=100.0,
        feature_means=tuple(x.mean(0).tolist()),
        feature_stds=tuple(x.std(0, correction=0).tolist()),
    )
    made = remedy(measurements(data=(row,), rehearsal=FLAT), "input-scaling")
    image = torch.full((1, 6), 100.0)
    assert float(paste(made.code, x=image)["x"].max()) < 10
    scaled_x = paste(made.code, x=x)["x"]
    assert float(scaled_x.std(0)[[0, 1, 3, 4, 5]].sub(1).abs().max()) < 0.01
