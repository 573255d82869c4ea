"""The training recipe as an optimizer: from the user's own, and into one of torch's."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gradaudit.errors import UsageError
from gradaudit.recipes import recipe_from
from gradaudit.records import Recipe
from gradaudit.subject.code import call
from gradaudit.subject.opened import OptimizerFactory
from gradaudit.telling import did_you_mean, listed

_IN_OPTIMIZER = ("lr", "momentum", "betas", "eps", "weight_decay")


def from_optimizer(
    given: torch.optim.Optimizer | OptimizerFactory | None, model: nn.Module
) -> tuple[Recipe, OptimizerFactory | None, tuple[str, ...]]:
    """The recipe an optimizer stands for, how to make another like it, and what to tell.

    Of several parameter groups the fastest one's numbers are the recipe's; the factory keeps all
    groups. Raises ``UsageError`` for an optimizer over other parameters than the model's.
    """
    if given is None:
        return Recipe(), None, ()
    if isinstance(given, torch.optim.Optimizer):
        return _stated(given), _like(given, model), _told(given, model)
    if not callable(given):
        raise UsageError(
            "the optimizer is neither an optimizer nor a callable",
            expected="torch.optim.Optimizer, or a function from parameters to one",
            found=type(given).__name__,
        )
    made = call(given, "the optimizer factory", list(model.parameters()))
    if not isinstance(made, torch.optim.Optimizer):
        raise UsageError("the optimizer factory returned no optimizer", found=type(made).__name__)
    return _stated(made), given, _told(made, model)


def _told(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[str, ...]:
    """What the report says aloud about the parameters and groups of the user's optimizer."""
    groups = optimizer.param_groups
    held = {id(p) for group in groups for p in group["params"]}
    trainable = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    if not held & {id(p) for p in model.parameters()}:
        raise UsageError(
            "the optimizer holds none of the model's parameters",
            expected="an optimizer over model.parameters()",
            found=f"{len(held)} tensors of something else",
            next_step="build it from this model's parameters, or pass a callable that does",
        )
    notes = []
    left_out = [name for key, name in trainable.items() if key not in held]
    if left_out:
        notes.append(
            f"Optimizer: {len(left_out)} of {len(trainable)} trainable parameters are not in it "
            f"and will not change: {listed(left_out, 2)}."
        )
    rates = [_float(group.get("lr")) for group in groups]
    if len(set(rates)) > 1:
        shown = ", ".join("?" if rate is None else f"{rate:g}" for rate in rates[:6])
        notes.append(
            f"Optimizer: {len(groups)} parameter groups with rates {shown}; the rehearsal keeps "
            "them, rules about the rate judge the highest."
        )
    return tuple(notes)


def _stated(optimizer: torch.optim.Optimizer) -> Recipe:
    group = max(optimizer.param_groups, key=lambda each: _float(each.get("lr")) or 0.0)
    momentum = group.get("momentum")
    betas = group.get("betas")
    return Recipe(
        optimizer=type(optimizer).__name__.lower(),
        lr=_float(group.get("lr")),
        momentum=_float(momentum),
        betas=None if betas is None else (float(betas[0]), float(betas[1])),
        eps=_float(group.get("eps")),
        weight_decay=_float(group.get("weight_decay")),
    )


def _float(value: Any) -> float | None:
    if isinstance(value, torch.Tensor):
        value = value.item()
    return float(value) if isinstance(value, (int, float)) else None


def _like(optimizer: torch.optim.Optimizer, model: nn.Module) -> OptimizerFactory:
    kind = type(optimizer)
    accepted = inspect.signature(kind).parameters
    groups = [
        {key: value for key, value in group.items() if key in accepted and key != "params"}
        for group in optimizer.param_groups
    ]
    order = {id(p): i for i, p in enumerate(model.parameters())}
    places = [
        [order[id(p)] for p in group["params"] if id(p) in order]
        for group in optimizer.param_groups
    ]

    def make(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        given = list(parameters)
        parts = [
            {"params": [given[i] for i in place], **settings}
            for place, settings in zip(places, groups, strict=True)
            if place
        ]
        return kind(parts, **groups[0])

    return make


def with_options(make: OptimizerFactory, options: Recipe) -> OptimizerFactory | None:
    """The user's optimizer with the stated numbers changed; ``None`` if another kind is stated."""
    if options.optimizer is not None:
        return None
    stated = {n: v for n in _IN_OPTIMIZER if (v := getattr(options, n)) is not None}
    if not stated:
        return make

    def changed(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        optimizer = make(parameters)
        for group in optimizer.param_groups:
            for name, value in stated.items():
                if name in group:
                    group[name] = value
        return optimizer

    return changed


def build_optimizer(how: Recipe | OptimizerFactory, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over the model's trainable parameters; torch's defaults for what is not stated.

    Raises ``UsageError`` for an optimizer torch does not have, or a number it does not take.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not isinstance(how, Recipe):
        every = list(model.parameters())
        return call(how, "the optimizer factory", every)
    kind, stated = _kind(how)
    return kind(parameters, **stated)


def _kind(recipe: Recipe) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class a recipe names, and the numbers stated for it."""
    known = {
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
    }
    kind = known.get((recipe.optimizer or "").lower())
    if kind is None or kind is torch.optim.Optimizer:
        raise UsageError(
            f"torch has no optimizer {recipe.optimizer!r}"
            if recipe.optimizer
            else "no optimizer is named",
            expected="sgd, adam, adamw, rmsprop or another of torch.optim",
            next_step=did_you_mean(recipe.optimizer or "", known, cutoff=0.5),
        )
    stated = {n: v for n in _IN_OPTIMIZER if (v := getattr(recipe, n)) is not None}
    for name in stated:
        if name not in inspect.signature(kind).parameters:
            raise UsageError(f"{recipe.optimizer} takes no {name}", next_step="leave it out")
    return kind, stated


def suited(recipe: Recipe, optimizer: str) -> Recipe:
    """``recipe`` without the numbers that torch's optimizer of that name does not take."""
    taken = inspect.signature(_kind(Recipe(optimizer=optimizer))[0]).parameters
    without: dict[str, Any] = {name: None for name in _IN_OPTIMIZER if name not in taken}
    return dataclasses.replace(recipe, **without)


def checked_recipe(recipe: Recipe) -> Recipe:
    """``recipe`` with its names in small letters.

    Raises ``UsageError`` for an optimizer torch does not have, or a number it does not take.
    """
    recipe = recipe_from(dataclasses.asdict(recipe), "the recipe")
    if recipe.optimizer is not None:
        _kind(recipe)
    return recipe
