"""Weights are thrown about or hardly touched by a step, and the rehearsal does not train.

## What it measures
The length of the optimizer's step over that of the weight, per weight, as the median over the
steps of the rehearsal. Weights are parameters of two or more dimensions that do not start at zero:
biases and the gains of norm layers have no size of their own to be held against. Only where the
rehearsal diverges or stays flat, and only for a recipe that was given.

## Why it hurts
A weight that changes by a tenth of itself at every step forgets what it knew in ten; one that
changes by a hundred-thousandth is after a thousand steps what it was before them.

## Example
```python
import torch

weight = torch.nn.Parameter(torch.randn(64, 64) / 8)
before = weight.detach().clone()
weight.grad = torch.randn(64, 64)
torch.optim.Adam([weight], lr=1.0).step()
assert (weight - before).norm() / before.norm() > 0.1
```

## Remedy
Another learning rate: for all weights if most are off, else a parameter group of its own for those
that are, or start values of the others' scale.

## Safety
Recipe only.

## References
Ben Braiek and Khomh 2023, TheDeepChecker, arXiv 2204.00694 (log10 within -4 and -1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradaudit.records import Estimate, Finding, Limit, Measurements, Rehearsal, Severity, Where
from gradaudit.rules._judge import learned, listed, number, plural, standing, too_slow
from gradaudit.rules._scale import data_to_blame
from gradaudit.settings import Settings

CODE = "GA605"
NAME = "update-ratio-off"
ORDER = 97
LIMITS = ("update_ratio_max", "update_ratio_min")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, about all weights on the side that fits what the rehearsal did."""
    rehearsal = measurements.rehearsal
    if rehearsal is None or rehearsal.prescribed or learned(measurements):
        return
    ratios = _ratios(measurements)
    sides = [
        (above, settings.limit(f"update_ratio_{'max' if above else 'min'}"))
        for above in (True, False)
        if _agrees(rehearsal, above=above)
    ]
    for find in (_off, _perhaps_off):
        for above, limit in sides:
            off = find(ratios, limit, above=above)
            if off:
                sure = any(standing(ratios[n], limit, above=above) == "past" for n in off)
                blamed = data_to_blame(measurements, settings)
                severity: Severity = "warn" if sure and not blamed else "note"
                worst = ratios[off[0]]
                why = _why(off, len(ratios), worst, limit, rehearsal, above=above)
                yield Finding(CODE, NAME, severity, Where(parameter=off[0]), worst, limit, why)
                return


def _off(ratios: Mapping[str, Estimate], limit: Limit, *, above: bool) -> list[str]:
    """The weights whose ratio is past the limit, the furthest first."""
    sign = 1.0 if above else -1.0
    off = [name for name, e in ratios.items() if sign * e.value > sign * limit.value]
    return sorted(off, key=lambda name: -sign * ratios[name].value)


def _perhaps_off(ratios: Mapping[str, Estimate], limit: Limit, *, above: bool) -> list[str]:
    """The weights whose interval reaches past the limit, if not their ratio itself."""
    sign = 1.0 if above else -1.0
    off = [n for n, e in ratios.items() if standing(e, limit, above=above) == "straddles"]
    return sorted(off, key=lambda name: -sign * ratios[name].value)


def _ratios(measurements: Measurements) -> dict[str, Estimate]:
    """Update ratio of every weight (two dimensions or more) that has one."""
    weights = {row.parameter for row in measurements.weights if len(row.shape) > 1}
    return {
        row.parameter: row.update_ratio
        for row in measurements.parameters
        if row.update_ratio is not None and row.parameter in weights
    }


def _agrees(rehearsal: Rehearsal, *, above: bool) -> bool:
    """Whether training fails the way such steps would make it fail."""
    if above:
        return rehearsal.outcome in ("diverges", "flat")
    return rehearsal.outcome == "flat" or (rehearsal.outcome == "falls" and too_slow(rehearsal))


def _why(
    off: list[str],
    total: int,
    worst: Estimate,
    limit: Limit,
    rehearsal: Rehearsal,
    *,
    above: bool,
) -> str:
    does = "diverges" if rehearsal.outcome == "diverges" else "hardly falls"
    beyond = (worst.value > limit.value) == above
    side = f"{'' if beyond else 'perhaps '}{'more' if above else 'less'}"
    return (
        f"{plural(len(off), 'weight')} of {total} change by {side} than {number(limit.value)} of "
        f"their length at a step ({listed(off)}; {number(worst.value)} at the far end), and the "
        f"rehearsal's loss {does}."
    )
