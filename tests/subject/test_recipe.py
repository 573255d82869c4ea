"""Recipes: read from files and optimizers, and built back into optimizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gradaudit.errors import GradauditError, UnreadableFile, UsageError
from gradaudit.recipes import overlay, read_recipe
from gradaudit.records import Recipe
from gradaudit.settings import Settings
from gradaudit.subject import build_optimizer, from_python


def test_toml_and_json_hold_the_same() -> None:
    Path("r.toml").write_text(
        'optimizer = "AdamW"\nlr = 3e-4\nbetas = [0.9, 0.95]\nweight-decay = 0.1\nclip_norm = 1\n'
        'warmup = 100\nsteps = 5000\nprecision = "bf16"\n'
    )
    Path("r.json").write_text(
        '{"optimizer": "adamw", "lr": 3e-4, "betas": [0.9, 0.95], "weight_decay": 0.1,'
        ' "clip_norm": 1.0, "warmup_steps": 100, "steps": 5000, "precision": "bf16", "eps": null}'
    )
    expected = Recipe(
        "adamw", 3e-4, None, (0.9, 0.95), None, 0.1, 1.0, 100, 5000, "bf16"
    )  # fmt: skip
    assert read_recipe(Path("r.toml")) == expected == read_recipe(Path("r.json"))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("lr = ", UnreadableFile, "neither TOML nor JSON"),
        ('{"lr": }', UnreadableFile, "neither TOML nor JSON"),
        ("learning_rte = 1", UsageError, "unknown key 'learning_rte'"),
        ("wait_decay = 1", UsageError, "did you mean 'weight_decay'?"),
        ("lr = -1", UsageError, "wrong lr; expected a positive number; found -1"),
        ('lr = "high"', UsageError, "found 'high'"),
        ("lr = inf", UsageError, "found inf"),
        ("lr = true", UsageError, "found True"),
        ("betas = [0.9]", UsageError, "two numbers from 0 below 1"),
        ("betas = [0.9, 1.0]", UsageError, "two numbers from 0 below 1"),
        ("optimizer = 3", UsageError, "wrong optimizer"),
        ("warmup = 0.5", UsageError, "a whole number of steps"),
        ("steps = 0", UsageError, "a whole number of steps"),
        ('precision = "int8"', UsageError, "fp32 or fp16 or bf16"),
        ('schedule = "step"', UsageError, "constant or linear or cosine; found 'step'"),
        ("schedule = 1", UsageError, "wrong schedule"),
    ],
)
def test_bad_recipes(text: str, kind: type[GradauditError], message: str) -> None:
    Path("r.toml").write_text(text)
    with pytest.raises(GradauditError) as caught:
        read_recipe(Path("r.toml"))
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedules_that_can_be_followed(schedule: str) -> None:
    Path("r.toml").write_text(f'schedule = "{schedule}"')
    assert read_recipe(Path("r.toml")) == Recipe(schedule=schedule)


def test_missing_recipe() -> None:
    with pytest.raises(UnreadableFile, match=r"no such file: r\.toml"):
        read_recipe(Path("r.toml"))


def _recipe(given: object, model: nn.Module, **options: object):
    sample = (torch.randn(6, 4), torch.randn(6, 2))
    settings = Settings(recipe=Recipe(**options))  # type: ignore[arg-type]
    return from_python(model, sample, None, given, settings)  # type: ignore[arg-type]


def test_from_an_optimizer_or_a_callable() -> None:
    model = nn.Linear(4, 2)
    sgd = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-4)
    found = _recipe(sgd, model)
    assert found.recipe == Recipe("sgd", 0.2, 0.9, weight_decay=1e-4)
    again = found.make_optimizer(nn.Linear(4, 2).parameters())
    assert (type(again), again.defaults["momentum"]) == (torch.optim.SGD, 0.9)
    for kind in (torch.optim.Adam, torch.optim.AdamW):
        found = _recipe(kind(model.parameters(), lr=0.01), model)
        assert found.recipe.betas == (0.9, 0.999)
        assert type(found.make_optimizer(model.parameters())) is kind
    found = _recipe(lambda p: torch.optim.RMSprop(p, lr=0.03), model)
    assert (found.recipe.optimizer, found.recipe.lr, found.recipe.momentum) == (
        "rmsprop",
        0.03,
        0.0,
    )


def test_parameter_groups_are_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    groups = [{"params": model[1].parameters(), "lr": 0.5}, {"params": model[0].parameters()}]
    found = _recipe(torch.optim.SGD(groups, lr=0.1), model)
    copy = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    made = found.make_optimizer(copy.parameters())
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.1]
    assert made.param_groups[0]["params"][0] is copy[1].weight


def test_options_win() -> None:
    model = nn.Linear(4, 2)
    adam = torch.optim.Adam(model.parameters(), lr=0.2)
    found = _recipe(adam, model, lr=0.5, clip_norm=1.0)
    assert (found.recipe.optimizer, found.recipe.lr, found.recipe.clip_norm) == ("adam", 0.5, 1.0)
    assert found.make_optimizer(model.parameters()).param_groups[0]["lr"] == 0.5
    found = _recipe(adam, model, optimizer="sgd")
    assert found.recipe.optimizer == "sgd"
    assert found.make_optimizer is None
    assert adam.param_groups[0]["lr"] == 0.2
    base = Recipe("sgd", 0.1, steps=50)
    assert overlay(base, Recipe(lr=0.3)) == Recipe("sgd", 0.3, steps=50)


def test_bad_optimizers() -> None:
    model = nn.Linear(4, 2)
    for given, message in (
        (3, "neither an optimizer nor a callable"),
        (lambda p: None, "returned no optimizer"),
        (lambda p: 1 / 0, "the optimizer factory raised ZeroDivisionError"),
    ):
        with pytest.raises(GradauditError, match=message):
            _recipe(given, model)


def test_build_optimizer() -> None:
    model = nn.Linear(4, 2)
    model.bias.requires_grad_(False)
    made = build_optimizer(Recipe("rmsprop", 0.1, momentum=0.5, eps=1e-6), model)
    assert type(made) is torch.optim.RMSprop
    assert (made.defaults["lr"], made.defaults["momentum"], made.defaults["eps"]) == (
        0.1,
        0.5,
        1e-6,
    )
    assert made.param_groups[0]["params"] == [model.weight]
    assert type(build_optimizer(torch.optim.Adam, model)) is torch.optim.Adam
    with pytest.raises(UsageError, match=r"torch has no optimizer 'adamm'.*did you mean 'adam'"):
        build_optimizer(Recipe("adamm"), model)
    with pytest.raises(UsageError, match="adam takes no momentum"):
        build_optimizer(Recipe("adam", momentum=0.5), model)
    with pytest.raises(UsageError, match="no optimizer is named"):
        build_optimizer(Recipe(), model)


class TestParametersOfTheOptimizer:
    def test_of_another_model_is_refused(self) -> None:
        other = torch.optim.Adam(nn.Linear(2, 2).parameters())
        with pytest.raises(UsageError, match="none of the model's parameters"):
            from_python(nn.Linear(4, 2), torch.randn(8, 4), None, other, Settings())

    def test_a_part_of_the_model_is_rehearsed_as_that_part_and_said(self) -> None:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        part = torch.optim.SGD(model[2].parameters(), lr=0.1)
        found = from_python(model, torch.randn(8, 4), None, part, Settings())
        assert found.make_optimizer is not None
        made = found.make_optimizer(model.parameters())
        assert [id(p) for g in made.param_groups for p in g["params"]] == [
            id(p) for p in model[2].parameters()
        ]
        assert any("2 of 4 trainable parameters are not in it" in note for note in found.notes)

    def test_groups_keep_their_rates_and_are_told(self) -> None:
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        groups = [
            {"params": model[0].parameters(), "lr": 1e-3},
            {"params": model[1].parameters(), "lr": 0.5},
        ]
        given = torch.optim.SGD(groups, lr=0.1)
        found = from_python(model, torch.randn(8, 4), None, given, Settings())
        assert found.make_optimizer is not None
        made = found.make_optimizer(model.parameters())
        assert [group["lr"] for group in made.param_groups] == [1e-3, 0.5]
        assert any("2 parameter groups with rates 0.001, 0.5" in note for note in found.notes)
        assert found.recipe.lr == 0.5  # the fastest group's
