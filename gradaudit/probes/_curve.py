"""What a short loss curve shows: a fall beyond the noise, a blow-up, or neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradaudit.linalg.intervals import student_quantile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Losses of a rehearsal, each taken before its step.

    ``batches[t]`` is the number of the batch of step t, ``progress[t]`` how many steps at the full
    rate had been taken before it (fewer than t during warm-up).
    """

    losses: Sequence[float]
    batches: Sequence[int]
    progress: Sequence[float]

    @property
    def own_rise(self) -> float:
        """Change of the first batch's loss from before any step to the end.

        The other batches were first seen after a step had been taken, when a blow-up may have been
        on already: only the first batch has a loss at the start.
        """
        own = self._of(self.batches[0])
        return (own[-1] if len(set(self.batches)) > 1 else self.end) - own[0]

    @property
    def start(self) -> float:
        """Mean loss of the first visits to the batches."""
        return float(np.mean([self._of(b)[0] for b in sorted(set(self.batches))]))

    @property
    def end(self) -> float:
        """Mean loss of the last visits to the batches, or of the last fifth with one batch."""
        ids = sorted(set(self.batches))
        if len(ids) > 1:
            return float(np.mean([self._of(b)[-1] for b in ids]))
        return float(np.mean(self.losses[-max(1, len(self.losses) // 5) :]))

    @property
    def scale(self) -> float:
        """Size of the initial loss."""
        return max(abs(self.losses[0]), 1e-12)

    def _of(self, batch: int) -> list[float]:
        return [x for x, b in zip(self.losses, self.batches, strict=True) if b == batch]

    def slope(self, first: int = 0) -> tuple[float, float]:
        """Least-squares slope per full-rate step from step ``first`` on, and its 95% half-width.

        Each batch has its own level (fixed effects), so that batches that differ do not pass for
        a trend. The half-width is infinite with too few points.
        """
        x, y, levels = self._within(first)
        spread = float((x * x).sum())
        dof = len(x) - levels - 1
        if not spread:
            return 0.0, float("inf")
        slope = float((x * y).sum()) / spread
        if dof < 1:
            return slope, float("inf")
        error = math.hypot(*(y - slope * x)) / math.sqrt(dof * spread)
        return slope, student_quantile(dof) * error

    def _within(self, first: int) -> tuple[Array, Array, int]:
        x = np.asarray(self.progress[first:], dtype=np.float64)
        y = np.asarray(self.losses[first:], dtype=np.float64)
        ids = np.asarray(self.batches[first:])
        for batch in np.unique(ids):
            mask = ids == batch
            x[mask] -= x[mask].mean()
            y[mask] -= y[mask].mean()
        return x, y, len(np.unique(ids))

    def noise(self) -> float:
        """Half-width of 95% about a single loss, from the second half's scatter about its line.

        Batch levels are taken out; infinite with too few points.
        """
        x, y, levels = self._within(len(self.losses) // 2)
        spread = float((x * x).sum())
        slope = float((x * y).sum()) / spread if spread else 0.0
        dof = len(x) - levels - 1
        if dof < 1:
            return float("inf")
        return student_quantile(dof) * math.hypot(*(y - slope * x)) / math.sqrt(dof)

    @property
    def falls(self) -> bool:
        """Whether the loss is lower at the end than at the start, beyond its noise.

        Either the slope says so, or the levels do: a loss that fell at once and then only scatters
        has hardly a slope.
        """
        if len(self.losses) < 3 or self.own_rise >= 0 or self.end >= self.start:
            return False
        slope, half = self.slope()
        visits = len(set(self.batches))
        levels = self.start - self.end > self.noise() * (2 / visits) ** 0.5
        return slope + half < 0 or levels

    @property
    def blows_up(self) -> bool:
        """Whether the loss left for good.

        Three times its start and no longer coming back (or thirty times), or climbing at the end,
        half above its start and three times its best.
        """
        if len(self.losses) < 2:
            return False
        slope, half = self.slope(len(self.losses) // 2)
        rise = self.own_rise / self.scale
        if rise > 2:
            return slope + half >= 0 or rise > 30
        # lowest mean of as many steps as the end's: one lucky batch is not a level
        window = max(len(set(self.batches)), 1)
        means = np.convolve(self.losses, np.ones(window) / window, mode="valid")
        best = float(means.min())
        climbing = slope - half > 0 and self.end > self.start + 0.5 * self.scale
        return climbing and self.end > 3 * best > 0

    def greatest_fall(self) -> float:
        """Loss taken off per step at the full rate, at most: the far end of the slope's interval.

        Infinite where there are too few points for one, never negative.
        """
        slope, half = self.slope()
        steps = self.progress[-1] - self.progress[0]
        levels = (self.start - self.end) / steps if steps > 0 else 0.0
        return max(half - slope, levels, 0.0)


def smoothed(losses: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with the bias of its start taken out (Kingma and Ba 2014)."""
    mean, out = 0.0, []
    for t, loss in enumerate(losses, start=1):
        mean = weight * mean + (1 - weight) * loss
        out.append(mean / (1 - weight**t))
    return out
