"""The mean of a quantity that changes from step to step, with an interval that knows it does.

Neighbouring steps resemble each other, so ``T`` steps hold fewer than ``T`` independent numbers.
Each sequence is cut into blocks several times as long as its memory; the block means are close to
independent, and Student's interval over them is honest (batch means: Law and Kelton 1979, J. Oper.
Res. 27:1280). Sequences that differ from each other more than their blocks do stand as one number
each. ``tests/benchmarks/lyapunov.py`` prints how often it holds the truth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradaudit.linalg.intervals import student_quantile

BLOCK = 10  # autocorrelation times per block: the means of neighbours then correlate by about 5%
_BLOCKS = 16  # in all; more would narrow Student's quantile by 8% and correlate more
_ALONE = 8  # blocks of a single sequence, whose own memory is all there is to go by
_SHORTEST = 16  # steps below which no memory can be read off a sequence
_WINDOW = 5.0  # Sokal's: sum correlations over this many autocorrelation times
_POOL_BELOW = 2.0  # variance ratio below which blocks are pooled over sequences (Paull 1950)


def mean_over_time(
    series: Tensor, *, stationary: bool = True
) -> tuple[float, float | None, float | None]:
    """``(mean, low, high)`` of a float64 ``[steps, sequences]`` series; 95%, sides may be unknown.

    ``low`` and ``high`` are ``None`` for a single sequence too short to be cut into eight blocks.
    The half width is never below the difference between the earlier and the later half: what is
    left of a transient after two of its time constants is covered by that (an even series seldom
    feels it). Nor is it below the range of the running sum of what the sequences have in common,
    over the steps: a series that turns with a phase (a complex pair of eigenvalues) has no noise,
    and its mean is off by up to that. Not ``stationary``: the interval is for the mean over just so
    many steps, which only the spread over sequences can tell. Raises ``ValueError`` where the
    series is empty or not finite.
    """
    if series.numel() == 0 or not bool(torch.isfinite(series).all()):
        raise ValueError("a mean over time needs a finite, non-empty series")
    steps = len(series)
    mean = float(series.mean())
    half = _half_width(series, block_count(series) if stationary else 1)
    if half is None:
        return mean, None, None
    if stationary and steps > 1:
        drift = series[: steps // 2].mean() - series[-(steps // 2) :].mean()
        turning = (series.mean(dim=1) - mean).cumsum(dim=0)
        half = max(half, abs(float(drift)), float(turning.max() - turning.min()) / steps)
    return mean, mean - half, mean + half


def block_count(series: Tensor) -> int:
    """Blocks that each sequence can be cut into; 1 where it is too short for its own memory."""
    steps, sequences = series.shape
    if steps < _SHORTEST:
        return 1
    memory = autocorrelation_time(series)
    if sequences == 1:
        # Nothing else would show a memory read too short: take the far end of its own error.
        memory *= 1 + 2 * math.sqrt(2 * (2 * _WINDOW * memory + 1) / steps)
    possible = int(steps / (BLOCK * memory))
    wanted = _ALONE if sequences == 1 else math.ceil(_BLOCKS / sequences)
    return max(1, min(wanted, possible))


def autocorrelation_time(series: Tensor) -> float:
    """``1 + 2 sum of autocorrelations``, in steps and at least 1, pooled over sequences.

    Sokal's automatic window (1997, Functional Integration, 131) ends the sum after five times the
    result; with window W its relative standard error is ``sqrt(2 (2 W + 1) / steps)``.
    """
    steps = series.shape[0]
    centred = series - series.mean(dim=0)
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0).abs().square()
    covariance = torch.fft.irfft(spectrum, n=2 * steps, dim=0)[:steps].sum(dim=1)
    if not float(covariance[0]) > 0:
        return 1.0
    times = 2 * (covariance / covariance[0]).cumsum(dim=0) - 1
    lags = torch.arange(steps, dtype=times.dtype)
    settled = (lags >= _WINDOW * times.clamp(min=1.0)).nonzero()
    window = int(settled[0]) if len(settled) else steps - 1
    return max(1.0, float(times[window]))


def _half_width(series: Tensor, blocks: int) -> float | None:
    sequences = series.shape[1]
    length = series.shape[0] // blocks
    # what does not fill a block is left out at the front, where a transient would be
    means = series[-length * blocks :].unflatten(0, (blocks, length)).mean(dim=1)
    if blocks == 1:
        return None if sequences == 1 else _student(means[0])
    if sequences == 1:
        return None if blocks < _ALONE else _student(means[:, 0])
    within = float(means.var(dim=0).mean())
    between = blocks * float(means.mean(dim=0).var())
    if between > _POOL_BELOW * within:
        return _student(means.mean(dim=0))
    return _student(means.flatten())


def _student(means: Tensor) -> float:
    return student_quantile(len(means) - 1) * float(means.std()) / math.sqrt(len(means))
