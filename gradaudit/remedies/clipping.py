"""Clip gradients at a threshold taken from their measured distribution.

Never prescribed for vanishing gradients: there is nothing to clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradaudit.records import Estimate, Finding, GradientNorm, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies._layers import codes
from gradaudit.rules._judge import wilson
from gradaudit.rules.clip_missing import heavy_tail
from gradaudit.settings import Settings

ORDER = 50

_UNIT = "share of steps clipped"
_ANSWERS = ("GA201", "GA611", "GA612")
# A one-sided 95% tolerance limit needs 0.95^59 < 0.05 and 0.90^29 < 0.05.
_BATCHES_FOR_P95, _BATCHES_FOR_P90 = 59, 29
_TIMES_MEDIAN = 2.0
_CUSTOMARY = 1.0  # Pascanu et al. 2013 and most transformer recipes since


@dataclass(frozen=True)
class Threshold:
    """A clip threshold, what it was taken from, and the share of steps it will clip."""

    value: float
    basis: str
    rate: Estimate | None


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, for spikes, explosion through time, or a clip that is too tight.

    Where the recipe says nothing about clipping and was not judged, spikes alone call for it.
    """
    answered = codes(findings) & set(_ANSWERS)
    unsaid = measurements.recipe.clip_norm is None and heavy_tail(measurements, settings)
    if not answered and not unsaid:
        return
    if answered == {"GA201"} and measurements.recipe.clip_norm is not None:
        return  # it clips already, at a threshold that nothing speaks against
    threshold = choose(measurements, exploding="GA201" in answered)
    if threshold is None:
        return
    rate = threshold.rate
    expected = "" if rate is None else f"; about {rate.value:.0%} of the steps will be clipped"
    yield Remedy(
        "clipping",
        "recipe",
        f"Clip the gradient norm at {threshold.value} ({threshold.basis}{expected}).",
        {
            "clip_norm": threshold.value,
            "basis": threshold.basis,
            "expected_clip_rate": None
            if rate is None
            else {"value": rate.value, "low": rate.low, "high": rate.high, "unit": rate.unit},
        },
        "# `model` is your torch.nn.Module. After loss.backward() (and scaler.unscale_), before\n"
        "# optimizer.step():\n"
        "import torch\n"
        "\n"
        f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={threshold.value!r})\n",
        "recipe only",
        _ANSWERS,
    )


def choose(measurements: Measurements, *, exploding: bool) -> Threshold | None:
    """The threshold that the measured norms support; ``None`` where none were measured."""
    norms = measurements.gradient_norm
    if exploding:
        # The norms measured are those of the explosion: none of them is a sound step.
        limit = _CUSTOMARY
        if norms is not None and 0 < norms.median < _CUSTOMARY / _TIMES_MEDIAN:
            limit = rounded(_TIMES_MEDIAN * norms.median)
        return Threshold(limit, "heuristic: no sound gradient was there to measure", None)
    if norms is None or norms.median <= 0:
        return None
    for needed, value, share in (
        (_BATCHES_FOR_P95, norms.p95, 0.05),
        (_BATCHES_FOR_P90, norms.p90, 0.10),
    ):
        if norms.batches >= needed:
            rate = Estimate(share, *wilson(share, norms.batches), _UNIT)
            basis = f"{1 - share:.0%} quantile of {norms.batches} batches"
            return Threshold(rounded(value), basis, rate)
    value = rounded(_TIMES_MEDIAN * norms.median)
    basis = f"heuristic: {_TIMES_MEDIAN:g} x the median of {norms.batches} batches"
    return Threshold(value, basis, _observed_rate(measurements, norms, value))


def _observed_rate(
    measurements: Measurements, norms: GradientNorm, threshold: float
) -> Estimate | None:
    """Share of the rehearsal's steps above the threshold."""
    rehearsal = measurements.rehearsal
    seen = rehearsal.gradient_norms if rehearsal is not None else ()
    if not seen:
        return None
    share = sum(norm > threshold for norm in seen) / len(seen)
    return Estimate(share, *wilson(share, len(seen)), _UNIT)
