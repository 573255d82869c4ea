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
    optimizer_name,
    step_hindrance,
)
from gradaudit.probes.constant_output import constant_output
from gradaudit.probes.expense import Expense
from gradaudit.records import NotMeasured, Outlook, Recipe, Trial
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened
from gradaudit.subject.process_state import save_process_state

SHOWN = 48  # points of a curve in the report
LEAST = 24  # fewer steps than this say no more than the rehearsal does
HELD_FROM = 4  # batches: with fewer, none is held out
LOOKS = 16  # at the batch held out, on the way
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
    :class:`Expense`: counted, not timed. Batches are cycled; of four or more the last is held out,
    and only looked at. Two thirds of the allowance go to the recipe, and what is left to
    :data:`STEADY` from the same start.
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
    constant = _constant(opened, seen)
    shown = replace(opened, batches=seen)
    own = _train(shown, choose_optimizer(opened, lr), count, constant, held)
    reference = None
    left = min(opened.recipe.steps, count * 3 // 2 - own.steps)
    recipe = replace(STEADY, steps=opened.recipe.steps)
    steady = replace(shown, recipe=recipe, make_optimizer=None)
    if left >= LEAST and not step_hindrance(steady):
        reference = _train(steady, choose_optimizer(steady), left, constant, held)
    return Outlook(
        of=opened.recipe.steps,
        affordable=count,
        own=own,
        reference=reference,
        constant=constant,
        held_constant=None if held is None else _constant(opened, (held,)),
        least=objective.least(seen),
    ), ()


def _constant(opened: Opened, batches: tuple[Batch, ...]) -> float | None:
    """The best constant prediction's loss: known for named losses, else fitted."""
    assert opened.objective is not None
    assert opened.model is not None
    known = opened.objective.constant(batches)
    return known if known is not None else constant_output(opened.model, opened.objective, batches)


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
    held_losses: list[float] = []
    looks = max(1, count // LOOKS)
    with borrowed(model):
        optimizer = choice.build(model)
        stepper = _Stepper(opened, model, optimizer)
        full = [group["lr"] for group in optimizer.param_groups]
        for t in range(count):
            if held is not None and t % looks == 0:
                held_losses.append(stepper.look(held))
            share = scheduled(recipe, t)
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * share
            if not stepper.step(opened.batches[t % len(opened.batches)], way):
                way.broke_at = t
                break
            if _has_left(way, constant):
                break
        if held is not None:
            held_losses.append(stepper.look(held))
    return _trial(way, optimizer_name(choice, optimizer), max(full), held_losses)


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

    def look(self, batch: Batch) -> float:
        """The loss on a batch as training would see it; what the look itself moves is put back."""
        objective = self._opened.objective
        assert objective is not None
        go_on = save_process_state()
        buffers = [(b, b.detach().clone()) for b in self._model.buffers()]
        with self._context:  # gradients stay on: a forward pass may take some of its own
            value = float(take_loss(self._model, objective, batch)[1].detach())
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        go_on()
        return value


def _has_left(way: _Way, constant: float | None) -> bool:
    """Whether the loss is so far above everything that it will not come back."""
    t = len(way.losses)
    if t % 10 or t < 3:
        return False
    start = max(abs(way.losses[0]), abs(constant or 0.0), 1e-12)
    if way.level(t, way.width) > BLOWN_UP * start:
        way.settled, way.broke_at = "the loss left for good", t
    return way.broke_at is not None


def _trial(way: _Way, name: str, lr: float, held: list[float]) -> Trial:
    losses, count = way.losses, len(way.losses)
    if not count:  # not even the first loss was finite
        return Trial(name, lr, 0, (), 0.0, 0.0, 0.0, 0)
    each = math.ceil(count / SHOWN)
    thinned = [
        math.fsum(losses[i : i + each]) / len(losses[i : i + each]) for i in range(0, count, each)
    ]
    levels = [way.level(t, way.width) for t in range(way.width, count + 1, max(1, way.width // 2))]
    levels.append(way.level(count, way.width))
    seen = [loss for loss in held if math.isfinite(loss)]
    return Trial(
        optimizer=name,
        lr=lr,
        steps=count,
        losses=tuple(thinned),
        start=way.level(min(way.batches, count), way.batches),
        end=way.level(count, way.width),
        lowest=min(levels),
        broke_at=way.broke_at,
        held_out=held[-1] if held and math.isfinite(held[-1]) else None,
        held_lowest=min(seen, default=None),
        held_start=held[0] if held and math.isfinite(held[0]) else None,
        settled=way.settled,
    )
