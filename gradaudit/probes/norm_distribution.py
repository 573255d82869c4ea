"""What the gradient norms of a few batches say: spread, tail, and where to clip.

Everything rests on the batches being drawn alike and independently, at the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradaudit.probes._estimates import beta_quantile, gamma_quantile, wilson
from gradaudit.records import Estimate, GradientNorm

# With so many batches the 95% upper confidence limit of the quantile lies within the sample:
# 0.9^29 < 0.05 and 0.95^59 < 0.05 (one-sided tolerance limits, Wilks 1941).
ENOUGH_FOR_P90, ENOUGH_FOR_P95 = 29, 59
TIMES_MEDIAN = 2.0
RATE_UNIT = "share of steps clipped"
_FINITE_VARIANCE = 2.0  # a Pareto tail of a smaller index has none


def describe_norms(norms: Sequence[float], tail_ratio: float) -> GradientNorm | None:
    """Quantiles, tail and clip threshold of finite L2 norms; ``None`` where there are none.

    A tail is *heavy* where the largest of three or more norms is ``tail_ratio`` times the median,
    *light* only where 29 or more batches show no such norm and Hill's index lies above 2 with its
    whole interval; else it is *unresolved*.
    """
    if not norms:
        return None
    ordered = sorted(norms)
    median, peak = float(np.median(ordered)), ordered[-1]
    index = hill(ordered)
    tail, why = _tail(ordered, median, tail_ratio, index)
    threshold, basis, rate = clip_point(ordered, tail_ratio)
    p90, p95 = (float(q) for q in np.quantile(ordered, [0.9, 0.95]))
    return GradientNorm(
        batches=len(ordered),
        median=median,
        p90=p90,
        p95=p95,
        max=peak,
        tail=tail,
        tail_why=why,
        tail_index=index,
        clip_threshold=threshold,
        clip_basis=basis,
        clip_rate=rate,
        norms=tuple(norms),
    )


def hill(ordered: Sequence[float]) -> Estimate | None:
    """Index of the Pareto tail that the largest norms follow, with its 95% interval.

    Hill 1975 on the k largest of n, ``k = max(5, floor(sqrt(n)))``, without its bias: ``(k - 1) /
    sum(log(x_i / x_(k+1)))``. The sum times the index is Gamma(k) for a Pareto tail, which gives
    an exact interval; for any other it is the index that the tail seems to have that far out. A
    light tail gives a large one. ``None`` below 29 batches, or where the largest are all equal.
    """
    if len(ordered) < ENOUGH_FOR_P90:
        return None
    top = max(5, math.isqrt(len(ordered)))
    floor = ordered[-top - 1]
    excess = math.fsum(math.log(x / floor) for x in ordered[-top:]) if floor > 0 else 0.0
    if excess <= 0:
        return None
    low, high = (gamma_quantile(p, top) / excess for p in (0.025, 0.975))
    return Estimate((top - 1) / excess, low, high, f"Pareto index of the {top} largest norms")


def _tail(
    ordered: Sequence[float], median: float, limit: float, index: Estimate | None
) -> tuple[str, str]:
    count = len(ordered)
    if count == 1:
        return "unresolved", "one batch has no spread"
    if median <= 0:
        return "unresolved", f"the gradient is zero on half of the {count} batches or more"
    ratio, beyond = ordered[-1] / median, 1 - 0.05 ** (1 / count)
    why = (
        f"the largest of {count} norms is {ratio:.3g} times the median; with 95% confidence at "
        f"most {beyond:.0%} of the batches lie beyond it"
    )
    if index is not None:
        why += f"; Hill's index is {index.value:.2g} ({index.low:.2g} to {index.high:.2g})"
    if count > 2 and ratio > limit:
        return "heavy", why
    if count < ENOUGH_FOR_P90:
        return "unresolved", f"{why}; a light tail takes {ENOUGH_FOR_P90} batches to show"
    sure = index is None or (index.low or 0.0) > _FINITE_VARIANCE
    return ("light" if sure else "unresolved"), why


def clip_point(
    ordered: Sequence[float], tail_ratio: float
) -> tuple[float | None, str, Estimate | None]:
    """A clip threshold, what it rests on, and the share of batches it is expected to clip.

    With 59 batches the norm that one in 20 exceeds, with 29 the one that one in 10 exceeds: an
    order statistic, of which the share beyond is Beta distributed whatever the norms are. With
    fewer, or where that norm is itself ``tail_ratio`` times the median, so that clipping there
    would let the tail pass, twice the median: a heuristic, and the share is Wilson's of the batches
    beyond. ``None`` where the median is zero.
    """
    count, median = len(ordered), float(np.median(ordered))
    if median <= 0:
        return None, "", None
    batches = "1 batch" if count == 1 else f"{count} batches"
    basis = f"heuristic: {TIMES_MEDIAN:g} x the median of {batches}"
    for needed, percent in ((ENOUGH_FOR_P95, 95), (ENOUGH_FOR_P90, 90)):
        if count >= needed:
            rank = -(-(count + 1) * percent // 100)
            threshold = ordered[rank - 1]
            if threshold <= tail_ratio * median:
                basis = f"{percent}% quantile of {batches}"
                return threshold, basis, _share_beyond(ordered, threshold)
            basis += f", whose {percent}% quantile lies in the tail"
            break
    threshold = TIMES_MEDIAN * median
    return threshold, basis, wilson(sum(x > threshold for x in ordered), count, RATE_UNIT)


def _share_beyond(ordered: Sequence[float], threshold: float) -> Estimate:
    """Share of all batches beyond one of the norms: Beta(c + 1, n - c) with c of n beyond it.

    That holds for norms that all differ. Others at the threshold are a value that comes up again
    and again: what lies beyond it is counted like any share (Clopper and Pearson 1934).
    """
    count, beyond = len(ordered), sum(x > threshold for x in ordered)
    low, high = (beta_quantile(p, beyond + 1, count - beyond) for p in (0.025, 0.975))
    if sum(x == threshold for x in ordered) == 1:
        return Estimate((beyond + 1) / (count + 1), low, high, RATE_UNIT)
    low = beta_quantile(0.025, beyond, count - beyond + 1) if beyond else 0.0
    return Estimate(beyond / count, low, high, RATE_UNIT)
