"""Nearly every gradient is cut to a small part of its length.

## What it measures
The given clip threshold over the gradient norms of the rehearsal. It is a finding where the share
of clipped steps is above its limit and the threshold is below a tenth of every norm seen (or the
clip rate's whole interval is above the limit). A clip that was not given is never judged.

## Why it hurts
Constant clipping is no guard any more but a cut of the learning rate: under SGD training slows by
that factor. Under Adam it nearly cancels, since the step is divided by the gradient's own size.

## Example
```python
import torch
from torch import nn

model = nn.Linear(8, 1)
model(torch.randn(32, 8)).square().mean().backward()
norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-4)
assert norm > 1e-3  # cut more than tenfold
```

## Remedy
A threshold near the top of the measured distribution, so that only spikes are cut.

## Safety
Recipe only.

## References
Pascanu et al. 2013, arXiv 1211.5063, section 3.2; Zhang et al. 2020, arXiv 1905.11881.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from gradaudit.records import Estimate, Finding, Measurements, Severity, Where
from gradaudit.rules._judge import is_adaptive, number, standing, too_slow
from gradaudit.settings import Settings

CODE = "GA612"
NAME = "clip-too-tight"
ORDER = 87
LIMITS = ("clip_cut", "clip_rate_max")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    clip, rehearsal = measurements.recipe.clip_norm, measurements.rehearsal
    if clip is None or rehearsal is None or rehearsal.clip_rate is None:
        return
    limit, most = settings.limit("clip_cut"), settings.limit("clip_rate_max")
    measured = cut(measurements, clip, limit.unit)
    if measured is None or measured.value >= limit.value or rehearsal.clip_rate.value <= most.value:
        return
    # Twenty clipped steps of twenty cannot show a rate above 95%, but that all of them were cut
    # more than tenfold needs no statistics.
    sure = (
        standing(measured, limit, above=False) == "past"
        or standing(rehearsal.clip_rate, most) == "past"
    )
    adaptive = is_adaptive(rehearsal.optimizer)
    yield Finding(
        CODE,
        NAME,
        _severity(measurements, sure=sure, adaptive=adaptive),
        Where(),
        measured,
        limit,
        f"The clip at {number(clip)} cuts {rehearsal.clip_rate.value:.0%} of the steps to "
        f"{number(measured.value)} of their length at the median. " + _effect(measured, adaptive),
    )


def cut(measurements: Measurements, clip: float, unit: str) -> Estimate | None:
    """Threshold over the median gradient norm; the range is that over all norms seen."""
    rehearsal, norms = measurements.rehearsal, measurements.gradient_norm
    seen = [norm for norm in rehearsal.gradient_norms if norm > 0] if rehearsal else []
    if seen:
        return Estimate(clip / median(seen), clip / max(seen), clip / min(seen), unit)
    if norms is None or norms.median <= 0:
        return None
    return Estimate(clip / norms.median, clip / norms.max, None, unit)


def _severity(measurements: Measurements, *, sure: bool, adaptive: bool) -> Severity:
    rehearsal = measurements.rehearsal
    falls = rehearsal is not None and rehearsal.outcome == "falls" and not too_slow(rehearsal)
    if not sure or (adaptive and falls):
        return "note"
    return "warn" if adaptive or falls else "fail"


def _effect(measured: Estimate, adaptive: bool) -> str:
    if adaptive:
        return "Under this optimizer that nearly cancels, but spikes are no longer told apart."
    return f"Under this optimizer that cuts the learning rate {number(1 / measured.value)} times."
