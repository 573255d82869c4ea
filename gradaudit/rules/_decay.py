"""How hard weight decay pulls on the weights, and for how long."""

from __future__ import annotations

import math

from gradaudit.records import Measurements, ParameterRow
from gradaudit.rules._judge import is_adaptive, optimizer_in_use

# Their decay shrinks the weights beside the step; all others add it to the gradient.
_DECOUPLED = ("adamw", "lion", "lamb", "muon", "adafactor")


def is_decoupled(optimizer: str) -> bool:
    """Whether the optimizer applies decay beside its step."""
    return any(name in optimizer.lower() for name in _DECOUPLED)


def pull_of_decay(measurements: Measurements) -> float | None:
    """Decay's part of a step over the loss's, at the start; ``None`` where one is not known."""
    decay, rows = measurements.recipe.weight_decay, _trained(measurements)
    if not decay or not rows:
        return None
    size = math.hypot(*(row.weight_norm for row in rows))
    if is_decoupled(optimizer_in_use(measurements)):
        pull = math.sqrt(sum(row.size for row in rows))
    else:
        pull = math.hypot(*(row.gradient_norm.value for row in rows if row.gradient_norm))
    return decay * size / pull if pull > 0 else None


def halves_the_weights(measurements: Measurements) -> bool:
    """Whether the recipe is long enough for decay, left alone, to halve the weights."""
    recipe, rows = measurements.recipe, _trained(measurements)
    if not recipe.lr or not recipe.weight_decay or not rows:
        return False
    optimizer = optimizer_in_use(measurements)
    if is_adaptive(optimizer) and not is_decoupled(optimizer):
        # Divided by its own size, decay moves every entry by the rate.
        size = math.hypot(*(row.weight_norm for row in rows))
        return recipe.lr * recipe.steps >= 0.5 * size / math.sqrt(sum(row.size for row in rows))
    rate = recipe.lr / (1 - (recipe.momentum or 0.0) if (recipe.momentum or 0.0) < 1 else 1.0)
    return rate * recipe.weight_decay * recipe.steps >= math.log(2)


def _trained(measurements: Measurements) -> list[ParameterRow]:
    """Rows of the parameters that the loss and the optimizer reach, with a gradient measured."""
    return [
        row
        for row in measurements.parameters
        if row.trainable
        and row.connected
        and row.gradient_norm is not None
        and math.isfinite(row.weight_norm)
    ]
