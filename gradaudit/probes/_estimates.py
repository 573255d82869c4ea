"""Means, medians and shares with their 95% intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from gradaudit.linalg.intervals import student_quantile
from gradaudit.records import Estimate


def mean_estimate(values: Sequence[float], unit: str, *, floor: float | None = None) -> Estimate:
    """Mean with its 95% Student interval over batches; exact for one value."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate.exact(mean, unit)
    half = student_quantile(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    low = mean - half if floor is None else max(mean - half, floor)
    return Estimate(mean, low, mean + half, unit)


def wilson(hits: int, trials: int, unit: str) -> Estimate:
    """A share with its 95% score interval (Wilson 1927)."""
    z, p = 1.959964, hits / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2)
    low, high = max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))
    return Estimate(p, low, high, unit)


def median_estimate(values: Sequence[float], unit: str) -> Estimate:
    """Median with its 95% interval by order statistics, which needs six values or more."""
    ordered, n = sorted(values), len(values)
    middle = statistics.median(ordered)
    # the largest k with P(Binomial(n, 1/2) < k) <= 2.5%
    tail, k = 0.5**n, 0
    while tail <= 0.025:
        k += 1
        tail += math.comb(n, k) * 0.5**n
    if k == 0:
        return Estimate(middle, None, None, unit)
    return Estimate(middle, ordered[k - 1], ordered[n - k], unit)


def beta_quantile(p: float, a: int, b: int) -> float:
    """Quantile of the Beta distribution with whole ``a`` and ``b``.

    ``P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a)``, inverted by bisection.
    """
    n = a + b - 1

    def below(x: float) -> float:
        return math.fsum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))

    return _root(below, p, 1.0)


def gamma_quantile(p: float, shape: int) -> float:
    """Quantile of the Gamma distribution of whole ``shape`` and scale 1, by bisection."""

    def below(x: float) -> float:
        return 1 - math.exp(-x) * math.fsum(x**k / math.factorial(k) for k in range(shape))

    return _root(below, p, 10.0 * shape + 50.0)


def _root(rises: Callable[[float], float], value: float, high: float) -> float:
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < value else (low, middle)
    return (low + high) / 2
