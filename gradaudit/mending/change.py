"""Remedies applied to a loan of the model, by running the very code that the report shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe, Remedy
from gradaudit.remedies import recipe_of
from gradaudit.remedies.catalogue import SHOWN
from gradaudit.subject import Opened, borrowed
from gradaudit.subject.opened import Batch
from gradaudit.subject.recipe import with_options

START = "changes start values"
_IN_RECIPE = {
    "optimizer": "optimizer",
    "lr": "lr",
    "momentum": "momentum",
    "betas": "betas",
    "eps": "eps",
    "weight_decay": "weight_decay",
    "clip_norm": "clip_norm",
    "warmup_steps": "warmup",
    "schedule": "schedule",
    "precision": "precision",
}


def applicable(remedies: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """Those that can be applied: not the ones that are only shown."""
    return tuple(remedy for remedy in remedies if remedy.safety != SHOWN)


@contextmanager
def changed(opened: Opened, remedies: Sequence[Remedy], seed: int) -> Iterator[Opened]:
    """The subject with the remedies applied; on exit the model is bit for bit as it was.

    What a remedy's code draws depends on ``seed`` and on nothing else, so that the same remedies
    give the same start again. Raises what the code raises: it is ours.
    """
    assert opened.model is not None
    with borrowed(opened.model) as model:
        set_start(model, remedies, seed)
        recipe = recipe_of(remedies)
        yield replace(
            opened,
            recipe=merged(opened.recipe, recipe),
            batches=tuple(scaled(batch, recipe) for batch in opened.batches),
            make_optimizer=_optimizer(opened, recipe),
        )


def set_start(model: nn.Module, remedies: Sequence[Remedy], seed: int) -> None:
    """Run the code of those remedies that change start values, in order, on ``model`` itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for remedy in remedies:
            if remedy.safety == START:
                exec(compile(remedy.code, f"remedy {remedy.id}", "exec"), {"model": model})


def merged(given: Recipe, written: Mapping[str, Any]) -> Recipe:
    """The recipe with what is prescribed written over it."""
    changes = {
        name: written[key] for key, name in _IN_RECIPE.items() if written.get(key) is not None
    }
    return replace(given, **changes)


def _optimizer(opened: Opened, written: Mapping[str, Any]) -> Any:
    """The user's own optimizer with the prescribed numbers; none where another kind is asked."""
    if opened.make_optimizer is None:
        return None
    return with_options(opened.make_optimizer, merged(Recipe(), written))


def scaled(batch: Batch, written: Mapping[str, Any]) -> Batch:
    """The batch with ``(x - shift) / scale`` for the input and the target, where prescribed."""
    inputs: Any = batch.inputs
    numbers = _numbers(written, "input")  # of the first positional input: others stay advice
    if numbers is not None and not isinstance(inputs, Mapping):
        inputs = (_scale(inputs[0], numbers), *inputs[1:])
    target = _scale(batch.target, _numbers(written, "target"))
    return replace(batch, inputs=inputs, target=target)


def _numbers(written: Mapping[str, Any], role: str) -> tuple[Any, Any] | None:
    found = written.get(role) or {}
    return None if found.get("scale") is None else (found["shift"], found["scale"])


def _scale(value: Any, numbers: tuple[Any, Any] | None) -> Any:
    if numbers is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    shift, scale = (torch.tensor(n, dtype=value.dtype, device=value.device) for n in numbers)
    return (value - shift) / scale
