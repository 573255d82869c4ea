"""From what reached back through time to the record of it."""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor, nn

from gradaudit.linalg.intervals import log_mean, log_ratio_interval
from gradaudit.probes.time_sequences import Reach, log10_of, spectral_radius
from gradaudit.records import Estimate, NotMeasured, RecurrentRow

WHAT = "gradient through time"
HORIZON = 0.01  # of the rms at the last step
_LARGEST = math.log(sys.float_info.max)
_UNIT, _PER_STEP = "log10 of gain (sum of squares)", "gain per step (sum of squares)"

Answer = tuple[RecurrentRow | None, tuple[NotMeasured, ...]]


def place(name: str) -> str:
    """How messages call a module."""
    return name or "the model"


def row_of(module: nn.Module, name: str, reach: Reach) -> Answer:
    """The record of one reach; a reason instead where gradients are no numbers or all zero."""
    logs = reach.logs
    if bool(torch.isnan(logs).any()) or bool((logs == torch.inf).any()):
        why = "the gradient is not finite, even in float64"
        return None, (NotMeasured(WHAT, place(name), why),)
    means = log_mean(logs.T) + (math.log(logs.shape[1]) if reach.exact else 0.0)
    if not bool(torch.isfinite(means[-1])) or not bool(torch.isfinite(reach.ends[-1]).any()):
        why = "the gradient at the last step is zero: the output does not depend on its input"
        return None, (NotMeasured(WHAT, place(name), why),)
    rms = 0.5 * (means - math.log(reach.entries))
    profile = tuple(
        sorted(
            (t, math.exp(value))
            for t, value in zip(reach.steps, rms.tolist(), strict=True)
            if value < _LARGEST
        )
    )
    missing: tuple[NotMeasured, ...] = ()
    if len(profile) < len(reach.steps):
        why = f"{len(reach.steps) - len(profile)} steps lie past the largest float64"
        missing = (NotMeasured("gradient profile over time", place(name), why),)
    steps = len(reach.steps)
    row = RecurrentRow(
        module=name,
        type=type(module).__name__,
        steps=steps,
        profile=profile,
        growth_log10=growth_over(reach, steps),
        growth_per_step=_per_step(reach, steps),
        horizon=_horizon(means, reach.steps),
        spectral_radius=spectral_radius(module),
        growth_by_length=growth_by_length(reach),
    )
    return row, missing


def growth_by_length(reach: Reach) -> tuple[tuple[int, Estimate], ...]:
    """Growth over the last quarter, the last half and all of the steps, where those are two steps.

    What a sequence of that length, ending where this one ends, would have shown: from the same
    cotangents at no further cost.
    """
    steps = len(reach.steps)
    lengths = sorted({steps // 4, steps // 2, steps})
    return tuple((length, growth_over(reach, length)) for length in lengths if length >= 2)


def growth_over(reach: Reach, length: int) -> Estimate:
    """log10 of the squared gradient ``length - 1`` steps back over that at the last step."""
    natural = _ratio(reach, length)
    if natural is None:
        # Zero, or too small for any float: all that is known is that it lies below the floor.
        return Estimate(reach.floor, None, reach.floor, _UNIT)
    value, low, high = (log10_of(number) for number in natural)
    return Estimate(value, _bound(low), _bound(high), _UNIT)


def _per_step(reach: Reach, length: int) -> Estimate | None:
    """The same per step, as a gain; ``None`` where that is no float."""
    natural, steps = _ratio(reach, length), reach_steps(reach, length)
    if natural is None:
        floor = 10 ** (reach.floor / steps)
        return Estimate(floor, None, floor, _PER_STEP)
    value, low, high = (_exp(number / steps) for number in natural)
    return None if value is None else Estimate(value, low, high, _PER_STEP)


def reach_steps(reach: Reach, length: int) -> int:
    """Steps between the last one and the one ``length - 1`` places back."""
    return abs(reach.steps[-1] - reach.steps[-length])


def _ratio(reach: Reach, length: int) -> tuple[float, float, float] | None:
    """Natural log of the squared gain with its interval; ``None`` where nothing arrives."""
    first, last = reach.ends[-length], reach.ends[-1]
    if not bool(torch.isfinite(first).any()):
        return None
    if reach.exact:
        value = float(first.logsumexp(0) - last.logsumexp(0))
        return value, value, value
    return log_ratio_interval(first, last)


def _bound(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _exp(number: float) -> float | None:
    return math.exp(number) if -_LARGEST < number < _LARGEST else None


def _horizon(means: Tensor, steps: tuple[int, ...]) -> int | None:
    """The smallest lag at which the rms is below 1% of its value at the last step."""
    below = means < means[-1] + 2 * math.log(HORIZON)
    lags = [abs(steps[-1] - t) for t, small in zip(steps, below.tolist(), strict=True) if small]
    return min(lags, default=None)
