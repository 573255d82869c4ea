"""Clip gradients at a threshold taken from their measured distribution.

Never prescribed for vanishing gradients: there is nothing to clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradaudit.records import Estimate, Finding, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies._layers import codes
from gradaudit.rules._judge import is_adaptive, wilson
from gradaudit.rules.clip_missing import heavy_tail
from gradaudit.settings import Settings

ORDER = 50

_UNIT = "share of steps clipped"
_ANSWERS = ("GA201", "GA611", "GA612")
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
    rehearsed = None if "GA201" in answered else rehearsed_rate(measurements, threshold.value)
    yield Remedy(
        "clipping",
        "recipe",
        f"Clip the gradient norm at {threshold.value} ({threshold.basis}"
        f"{_expected(threshold.rate)}).{_constant(rehearsed, measurements, settings)}",
        {
            "clip_norm": threshold.value,
            "basis": threshold.basis,
            "expected_clip_rate": _as_dict(threshold.rate),
            "rehearsed_clip_rate": _as_dict(rehearsed),
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
    if norms is None or norms.clip_threshold is None:
        return None
    return Threshold(rounded(norms.clip_threshold), norms.clip_basis, norms.clip_rate)


def rehearsed_rate(measurements: Measurements, threshold: float) -> Estimate | None:
    """Share of the rehearsal's steps above the threshold, as if they were independent."""
    rehearsal = measurements.rehearsal
    seen = rehearsal.gradient_norms if rehearsal is not None else ()
    if not seen:
        return None
    share = sum(norm > threshold for norm in seen) / len(seen)
    return Estimate(share, *wilson(share, len(seen)), _UNIT)


def _expected(rate: Estimate | None) -> str:
    if rate is None or rate.low is None or rate.high is None:
        return ""
    return f"; {rate.low:.0%} to {rate.high:.0%} of batches like these will be clipped"


def _constant(rehearsed: Estimate | None, measurements: Measurements, settings: Settings) -> str:
    """What clipping nearly every step would come to, where the rehearsal's norms are above it."""
    if rehearsed is None or rehearsed.value <= settings.limit("clip_rate_max").value:
        return ""
    rehearsal = measurements.rehearsal
    adaptive = rehearsal is not None and is_adaptive(rehearsal.optimizer)
    effect = "nearly cancels" if adaptive else "is a cut of the learning rate"
    return (
        f" The rehearsal's gradients are above it at {rehearsed.value:.0%} of the steps: there "
        f"clipping is constant, which under this optimizer {effect}."
    )


def _as_dict(rate: Estimate | None) -> dict[str, object] | None:
    if rate is None:
        return None
    return {"value": rate.value, "low": rate.low, "high": rate.high, "unit": rate.unit}
