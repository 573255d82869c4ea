"""Whether the learning rate explains training that was seen to fail: too high, or too low."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gradaudit.records import Measurements
from gradaudit.rules import clip_too_tight
from gradaudit.rules import weight_decay_too_strong as weight_decay
from gradaudit.rules._judge import is_adaptive, made_up
from gradaudit.rules._outlook import reading, recipe_to_blame
from gradaudit.settings import Settings

Fault = Literal["high", "low"]
_TIMES = 8.0  # the steady recipe's rate: adaptive rates above that are high, below its inverse low
_BOUNCES = 1.1  # times its lowest level: a loss that goes down and up again
_HEAVY = 0.95  # momentum from which steps add up to twenty of their length and more


def rate_fault(measurements: Measurements, settings: Settings) -> Fault | None:
    """``None`` where training was not followed, goes well, or something else is to blame.

    The same start must come down under a steady recipe. Then a loss that leaves or bounces, or a
    rate past the range test's ceiling, is too high; one that only creeps is too low.
    """
    read, recipe = reading(measurements), measurements.recipe
    if read is None or read.course not in ("stalls", "diverges") or made_up(measurements):
        return None
    if recipe.lr is None or not recipe_to_blame(measurements):
        return None
    if any(any(each.check(measurements, settings)) for each in (clip_too_tight, weight_decay)):
        return None
    if read.course == "diverges" or any(_signs_of_height(measurements)):
        return "high"
    return "low"


def _signs_of_height(measurements: Measurements) -> Iterator[bool]:
    recipe, outlook, ranged = measurements.recipe, measurements.outlook, measurements.rate_range
    assert outlook is not None
    assert recipe.lr is not None
    own, other = outlook.own, outlook.reference
    adaptive = is_adaptive(recipe.optimizer or own.optimizer)
    if adaptive and other is not None and other.lr:
        if recipe.lr < other.lr / _TIMES:
            return
        yield recipe.lr > _TIMES * other.lr
    rehearsal = measurements.rehearsal
    yield rehearsal is not None and rehearsal.outcome == "diverges"
    yield ranged is not None and ranged.ceiling is not None and recipe.lr > ranged.ceiling
    bears = None if measurements.curvature is None else measurements.curvature.rate_ceiling
    yield bears is not None and bears.high is not None and recipe.lr > bears.high
    yield own.end > _BOUNCES * own.lowest
    yield (recipe.momentum or 0.0) >= _HEAVY
