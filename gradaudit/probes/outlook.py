"""Outlook: as much of the recipe's training as costs next to nothing, to the end for small nets.

A rehearsal of a few steps cannot see a slow stall, or a fault that shows late. Where a step is
small, hundreds of them fit into the audit's fixed seconds: then the recipe is simply followed. What
the loss could have reached is seen from the same start under a steady recipe.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from gradaudit.probes._hooks import backward, clear_gradients, take_loss
from gradaudit.probes._training import (
    Choice,
    choose_optimizer,
    global_norm,
    optimizer_name,
    step_hindrance,
)
from gradaudit.probes.expense import Expense
from gradaudit.records import NotMeasured, Outlook, Recipe, Trial
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened

SHOWN = 48  # points of a curve in the report
LEAST = 24  # fewer steps than this say no more than the rehearsal does
HELD_FROM = 4  # batches: with fewer, none is held out
SETTLED = 0.35  # of the constant's loss: beyond halfway to zero, with a margin for relapses
BLOWN_UP = 1e3  # times both the first loss and the constant's
STEADY = Recipe("adamw", lr=1e-3, clip_norm=1.0, warmup=20)
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _Way:
    """Losses of one training as they come in."""

    batches: int
    losses: list[float] = field(default_factory=list)
    broke_at: int | None = None
    settled: str = ""

    def level(self, at: int, width: int) -> float:
        """Mean of the ``width`` losses before ``at``."""
        part = self.losses[max(0, at - width) : at]
        return math.fsum(part) / len(part)

    @property
    def width(self) -> int:
        """Steps whose mean is a level: one visit to each batch, a tenth of the way at most."""
        few = max(1, len(self.losses) // 10)
        return max(min(self.batches, len(self.losses)), min(few, 20))


def measure_outlook(
    opened: Opened, settings: Settings, expense: Expense | None, *, lr: float | None = None
) -> tuple[Outlook | None, tuple[NotMeasured, ...]]:
    """Train from the start for as many of the recipe's steps as the effort's allowance holds.

    Call it inside ``borrowed(model, training=True)``; the weights come back as they were. ``lr``
    stands in for a rate that the recipe does not give. The allowance is in seconds of one core by
    :class:`Expense`: counted, not timed. Batches are cycled; of four or more the last is held out.
    Two thirds go to the recipe, and what is left to :data:`STEADY` from the same start, where the
    recipe neither settled nor blew up.
    """
    count = 0
    if expense is not None:
        count = min(opened.recipe.steps, int(settings.budget.allowance / expense.seconds * 2 / 3))
    why = _hindrance(opened, count)
    if why:
        return None, (NotMeasured("training beyond the rehearsal", "the recipe", why),)
    held = opened.batches[-1] if len(opened.batches) >= HELD_FROM else None
    seen = opened.batches[:-1] if held is not None else opened.batches
    objective = opened.objective
    assert objective is not None
    constant = objective.constant(seen)
    shown = replace(opened, batches=seen)
    own = _train(shown, choose_optimizer(opened, lr), count, constant, held)
    reference = None
    if not own.settled:
        left = min(opened.recipe.steps, count * 3 // 2 - own.steps)
        steady = replace(
            shown, recipe=replace(STEADY, steps=opened.recipe.steps), make_optimizer=None
        )
        if left >= LEAST:
            reference = _train(steady, choose_optimizer(steady), left, constant, held)
    return Outlook(
        of=opened.recipe.steps,
        affordable=count,
        own=own,
        reference=reference,
        constant=constant,
        held_constant=None if held is None else objective.constant((held,)),
    ), ()


def _hindrance(opened: Opened, count: int) -> str:
    if opened.model is None or opened.objective is None or not opened.batches:
        return "there is no model, no data or no loss"
    if not any(p.requires_grad for p in opened.model.parameters()):
        return "no parameter is trainable"
    if count < min(LEAST, opened.recipe.steps):
        return "a step is too large for more of them than the rehearsal takes"
    return step_hindrance(opened)


def _train(
    opened: Opened, choice: Choice, count: int, constant: float | None, held: Batch | None
) -> Trial:
    model, recipe = opened.model, opened.recipe
    assert model is not None
    way = _Way(len(opened.batches))
    held_out = None
    with borrowed(model):
        optimizer = choice.build(model)
        stepper = _Stepper(opened, model, optimizer)
        full = [group["lr"] for group in optimizer.param_groups]
        for t in range(count):
            share = scheduled(recipe, t)
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * share
            if not stepper.step(opened.batches[t % len(opened.batches)], way):
                way.broke_at = t
                break
            if _is_settled(way, recipe, constant):
                break
        if held is not None and way.broke_at is None:
            held_out = _loss_of(opened, model, held)
    return _trial(way, optimizer_name(choice, optimizer), max(full), held_out)


def scheduled(recipe: Recipe, step: int) -> float:
    """Share of the full rate at ``step``, counted from 0: warm-up, then the schedule."""
    share = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    done = min(1.0, step / recipe.steps)
    if recipe.schedule == "cosine":
        return share * 0.5 * (1 + math.cos(math.pi * done))
    return share * (1 - done) if recipe.schedule == "linear" else share


class _Stepper:
    """Plain training steps, in the recipe's precision, with its clipping."""

    def __init__(self, opened: Opened, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._opened, self._model, self._optimizer = opened, model, optimizer
        parameters = list(model.parameters())
        device = parameters[0].device.type
        pure = any(p.dtype in _HALF.values() for p in parameters)
        half = None if pure else _HALF.get(opened.recipe.precision or "")
        self._context: Any = torch.autocast(device, dtype=half) if half else nullcontext()
        self._scaler = torch.amp.GradScaler(device) if half is torch.float16 else None

    def step(self, batch: Batch, way: _Way) -> bool:
        """Whether loss and gradient were finite and the loss has not left for good."""
        model, objective, clip = self._model, self._opened.objective, self._opened.recipe.clip_norm
        assert objective is not None
        clear_gradients(model)
        with self._context:
            _, loss = take_loss(model, objective, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return False
        way.losses.append(value)
        if not loss.requires_grad:
            return True
        if self._scaler is None:
            backward(loss)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            self._optimizer.step()
            return True
        backward(self._scaler.scale(loss))
        self._scaler.unscale_(self._optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return True


def _loss_of(opened: Opened, model: nn.Module, batch: Batch) -> float | None:
    assert opened.objective is not None
    with torch.no_grad():
        value = float(take_loss(model, opened.objective, batch)[1])
    return value if math.isfinite(value) else None


def _is_settled(way: _Way, recipe: Recipe, constant: float | None) -> bool:
    """Whether the outcome is clear: far below the constant for long, or far above everything."""
    t = len(way.losses)
    if t % 10 or t < 3:
        return False
    level, first = way.level(t, way.width), abs(way.losses[0])
    if level > BLOWN_UP * max(first, abs(constant or 0.0), 1e-12):
        way.settled, way.broke_at = "the loss left for good", t
        return True
    if constant is None or constant <= 0 or t < max(60, 2 * (recipe.warmup or 0)):
        return False
    # below it now, and when half of the steps had been taken, and not on its way up
    middle = way.level(t // 2, way.width)
    if level <= SETTLED * constant and middle <= SETTLED * constant:
        way.settled = "the loss is far below what a constant prediction costs, and stays there"
        return True
    return False


def _trial(way: _Way, name: str, lr: float, held_out: float | None) -> Trial:
    losses = way.losses or [math.inf]
    count = len(losses)
    each = max(1, math.ceil(count / SHOWN))
    thinned = [
        math.fsum(losses[i : i + each]) / len(losses[i : i + each]) for i in range(0, count, each)
    ]
    levels = [way.level(t, way.width) for t in range(way.width, count + 1, max(1, way.width // 2))]
    if not way.losses:
        return Trial(name, lr, 0, (), 0.0, 0.0, 0.0, 0)
    return Trial(
        optimizer=name,
        lr=lr,
        steps=len(way.losses),
        losses=tuple(thinned),
        start=way.level(min(way.batches, count), way.batches),
        end=way.level(count, way.width),
        lowest=min(levels),
        broke_at=way.broke_at,
        held_out=held_out,
        settled=way.settled,
    )


__all__ = ["Expense", "global_norm", "measure_outlook", "scheduled"]
