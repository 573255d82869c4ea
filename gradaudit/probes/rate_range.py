"""Learning-rate range test: one sweep of rates from far too low to far too high.

Smith 2017 (arXiv 1506.01186). The sweep takes one step a rate, so a rate just above the edge has
had one step to show it: the ceiling is good to about one factor of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradaudit.probes._curve import smoothed
from gradaudit.probes._training import (
    Choice,
    choose_optimizer,
    optimizer_name,
    step_hindrance,
    take_step,
)
from gradaudit.records import NotMeasured, RateRange
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened

HIGHEST = 10.0
LOWEST = {"sgd": 1e-5, "adam": 1e-6, "adamw": 1e-6, "rmsprop": 1e-6}
STOP_AT = 4.0  # times the best smoothed loss, as Lightning and fastai do


@dataclass(frozen=True)
class RangeResult:
    """The range test, or why there is none."""

    rate_range: RateRange | None
    not_measured: tuple[NotMeasured, ...]


def measure_rate_range(opened: Opened, settings: Settings) -> RangeResult:
    """Sweep the rate geometrically over ``range_steps`` steps, from the start weights.

    Call it inside ``borrowed(model, training=True)``; the weights come back as they were. One
    batch serves for all steps, so that the loss differs from step to step by the weights alone
    (and by the model's own noise, which is read off the lowest rates). ``losses[i]`` is the loss
    before the step at ``rates[i]``. ``ceiling`` is the highest rate after which the loss was still
    on its course; ``steepest`` the one at which the smoothed loss fell fastest. Clipping is the
    recipe's. Cost: one training step a rate.

    Raises :class:`ModelError` where the user's code raises.
    """
    why = _hindrance(opened, settings.budget.range_steps)
    if why:
        return RangeResult(None, (NotMeasured("learning-rate range", "the model", why),))
    choice = choose_optimizer(opened)
    rates = list(
        np.geomspace(LOWEST.get(choice.name, 1e-6), HIGHEST, settings.budget.range_steps).tolist()
    )
    name, losses, left = _sweep(opened, choice, rates)
    missing = []
    last = last_on_course(losses)
    left = left or last < len(losses) - 1
    ceiling = rates[last - 1] if left and last > 0 else None
    if not left:
        why = f"the loss kept its course up to the highest rate tried, {HIGHEST:g}"
        missing.append(NotMeasured("learning-rate ceiling", "the model", why))
    elif ceiling is None:
        why = f"the loss left its course at once, at the lowest rate tried, {rates[0]:g}"
        missing.append(NotMeasured("learning-rate ceiling", "the model", why))
    row = RateRange(
        optimizer=name,
        rates=tuple(rates[: len(losses)]),
        losses=tuple(losses),
        ceiling=ceiling,
        steepest=steepest_rate(rates, losses[: last + 1]),
    )
    return RangeResult(row, tuple(missing))


def _hindrance(opened: Opened, steps: int) -> str:
    if steps < 1:
        return "this effort takes no range test"
    if opened.model is None:
        return "only weights were opened"
    if opened.objective is None or not opened.batches:
        return "there is no data or no loss"
    if not any(p.requires_grad for p in opened.model.parameters()):
        return "no parameter is trainable"
    return step_hindrance(opened)


def _sweep(opened: Opened, choice: Choice, rates: Sequence[float]) -> tuple[str, list[float], bool]:
    """Name of the optimizer, the finite losses, and whether the loss left its course."""
    model, objective = opened.model, opened.objective
    assert model is not None
    assert objective is not None
    losses: list[float] = []
    weight = smoothing(len(rates))
    with borrowed(model):
        optimizer = choice.build(model)
        name = optimizer_name(choice, optimizer)
        own = [group["lr"] for group in optimizer.param_groups]
        top = max(own)  # the recipe's rate is that of its fastest group
        for rate in rates:
            for group, lr in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate * (lr / top if top else 1.0)
            step = take_step(
                model, objective, opened.batches[0], optimizer, clip_norm=opened.recipe.clip_norm
            )
            if not math.isfinite(step.loss):
                return name, losses, True
            losses.append(step.loss)
            if not step.sound or has_left(losses, weight):
                return name, losses, True
    return name, losses, False


def smoothing(steps: int) -> float:
    """Weight of the past in the moving average: it remembers about a twelfth of the sweep."""
    return 1 - 1 / max(2.0, steps / 12)


def has_left(losses: Sequence[float], weight: float) -> bool:
    """Whether the smoothed loss is past four times its best, and past where it began."""
    curve = smoothed(losses, weight)
    best, scale = min(curve), max(abs(losses[0]), 1e-12)
    if best <= 0:
        return curve[-1] > best + STOP_AT * scale
    return curve[-1] > max(STOP_AT * best, scale * 1.1)


def last_on_course(losses: Sequence[float]) -> int:
    """Index of the last loss near its best so far: within 10% of that best and 3 sigma.

    Sigma is the relative scatter over the first quarter of the sweep, where the rates are too low
    to move the loss. The margin goes with the best, not with the start: a sweep that has fitted
    its batch is past the edge long before its loss is back where it began. ``-1`` where there are
    no losses.
    """
    if not losses:
        return -1
    early = np.asarray(losses[: max(4, len(losses) // 4)])
    sigma = float(np.median(np.abs(np.diff(early)))) if len(early) > 2 else 0.0
    best = np.minimum.accumulate(np.asarray(losses))
    margin = (0.1 + 3 * sigma / max(abs(losses[0]), 1e-12)) * np.abs(best)
    return int(np.flatnonzero(np.asarray(losses) <= best + margin)[-1])


def steepest_rate(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate whose step took most off the smoothed loss; ``None`` where none took 1% off."""
    curve = np.asarray(smoothed(losses, smoothing(len(rates)))) if losses else np.zeros(0)
    if len(curve) < 2:
        return None
    fall = -np.diff(curve)
    if curve[0] - curve.min() <= 0.01 * abs(curve[0]):
        return None
    return float(rates[int(np.argmax(fall))])
