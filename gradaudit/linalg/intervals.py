"""95% intervals for means of squares, their ratios and their growth, from few random probes.

A random cotangent ``u ~ N(0, I)`` gives ``T = ||J^T u||^2`` with mean ``||J||_F^2``, a generalised
chi-square: skewed where few singular values dominate. The interval is Student's on the log of the
mean, with the standard error of the delete-one jackknife (Efron and Stein 1981), widened on the
side where Hall's correction for the skewness of the pseudo-values (Hall 1992, J. R. Stat. Soc. B
54:221) reaches further. ``tests/benchmarks/intervals.py`` simulates its coverage and width over
spectra from rank one to rank 500 beside the plain ones: it holds the truth in 92.3 to 96.4% of
draws with 8 probes, 94.8 to 97.0% with 16 or 64 (Student's: 85.1 to 95.1% with 8).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

CONFIDENCE = 0.95


def student_two_sided(t: float, dof: int) -> float:
    """P(|T| <= t) of Student's t with integer ``dof`` (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(dof))
    sine, cosine = math.sin(theta), math.cos(theta)
    if dof == 1:
        return 2 * theta / math.pi
    term = 1.0 if dof % 2 == 0 else cosine
    total, k = term, (1 if dof % 2 == 0 else 2)
    while k < dof - 2:
        term *= k / (k + 1) * cosine * cosine
        total += term
        k += 2
    return sine * total if dof % 2 == 0 else 2 / math.pi * (theta + sine * total)


@lru_cache(maxsize=512)
def student_quantile(dof: int) -> float:
    """Half-width multiplier of a 95% Student interval; raises ``ValueError`` below one dof."""
    if dof < 1:
        raise ValueError(f"an interval needs two or more probes, not {dof + 1}")
    low, high = 0.0, 16.0
    for _ in range(80):
        middle = (low + high) / 2
        if student_two_sided(middle, dof) < CONFIDENCE:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def log_mean(logs: torch.Tensor) -> torch.Tensor:
    """Log of the mean over dim 0 of ``exp(logs)``, without leaving float64's range."""
    return torch.logsumexp(logs, dim=0) - math.log(logs.shape[0])


def _leave_one_out(logs: torch.Tensor) -> torch.Tensor:
    """``[m]`` log of the mean over all probes but the i-th."""
    m = logs.shape[0]
    if m < 2:
        raise ValueError(f"an interval needs two or more probes, not {m}")
    kept = logs.expand(m, m).masked_fill(torch.eye(m, dtype=torch.bool), -torch.inf)
    return torch.logsumexp(kept, dim=1) - math.log(m - 1)


def log_ratio_interval(
    numerator: torch.Tensor, denominator: torch.Tensor | None = None, *, divide_by: float = 1.0
) -> tuple[float, float, float]:
    """``(value, low, high)`` of ``log(mean(N) / mean(D)) / divide_by``, from paired log samples.

    ``numerator`` and ``denominator`` are float64 ``[m]`` logs of the same m probes; without a
    denominator the log mean of the numerator alone. Raises ``ValueError`` for fewer than 2 probes.
    """
    value, left_out = log_mean(numerator), _leave_one_out(numerator)
    if denominator is not None:
        value, left_out = value - log_mean(denominator), left_out - _leave_one_out(denominator)
    below, above = (bound / divide_by for bound in jackknife_interval(float(value), left_out))
    return float(value) / divide_by, min(below, above), max(below, above)


def jackknife_interval(value: float, left_out: torch.Tensor) -> tuple[float, float]:
    """``(low, high)`` of a statistic from its values ``[m]`` with each observation left out.

    Student's with the delete-one jackknife's error, widened for skewness where Hall's correction
    reaches further. Raises ``ValueError`` for fewer than 2 observations.
    """
    m = left_out.shape[0]
    quantile = student_quantile(m - 1)
    error = math.sqrt((m - 1) / m * float(((left_out - left_out.mean()) ** 2).sum()))
    below, above = quantile * error, quantile * error
    if error > 0:
        pseudo = m * value - (m - 1) * left_out
        deviations = (pseudo - pseudo.mean()) / pseudo.std()
        skew = float((deviations**3).mean()) / math.sqrt(m)
        below = max(below, error * _hall(quantile, skew))
        above = max(above, -error * _hall(-quantile, skew))
    return value - below, value + above


def _hall(t: float, skew: float) -> float:
    """The studentised deviation whose skewness-corrected value is ``t`` (Hall 1992, eq. 3)."""
    if abs(skew) < 1e-6:
        return t
    return 3 / skew * (math.copysign(abs(y := 1 + skew * (t - skew / 6)) ** (1 / 3), y) - 1)
