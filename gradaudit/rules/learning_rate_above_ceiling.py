"""The learning rate is higher than this model sustains.

## What it measures
The given rate against what was seen here: a rehearsal that diverges under it and falls under a
lower one, or a range test whose ceiling lies below it while the rehearsal does not fall. A test of
few rates tells the ceiling to within the step to the next one: a rate inside that step fails only
where the rehearsal's loss rose to twice its start, and is a warning where it stays on a plateau,
which some nets leave late. A rate that was not given is never judged.

## Why it hurts
Each step overshoots the valley by more than the one before; the loss grows until it is NaN, or
stays on a plateau from which it does not come back.

## Example
```python
import torch

w = torch.ones(1, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=2.5)  # the ceiling of w ** 2 / 2 is 2
for _ in range(20):
    optimizer.zero_grad()
    (w**2 / 2).sum().backward()
    optimizer.step()
assert w.abs() > 1000
```

## Remedy
The rate that the rehearsal sustained, else that of steepest fall in the range test. None beside
another failing finding, which may be what the rate breaks on: mend that one first.

## Safety
Recipe only.

## References
Smith 2017, arXiv 1506.01186; Cohen et al. 2021, arXiv 2103.00065.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import (
    Estimate,
    Finding,
    Limit,
    Measurements,
    RateRange,
    Rehearsal,
    Severity,
    Where,
)
from gradaudit.rules._judge import made_up, number
from gradaudit.rules._rate import rate_fault
from gradaudit.settings import Settings

CODE = "GA601"
NAME = "learning-rate-above-ceiling"
ORDER = 90
LIMITS = ()

_UNIT = "learning rate"
# Between the ceiling and the next rate of the test, the loss of nets that went on to train rose by
# less than 3% in the rehearsal; of those that did not, to 3.7 times its start and more.
_RISEN = 2.0


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    rate = measurements.recipe.lr
    rehearsal = measurements.rehearsal
    if rate is None or rehearsal is None or rehearsal.prescribed:
        return
    ceiling = None if measurements.rate_range is None else measurements.rate_range.ceiling
    if rehearsal.outcome == "diverges" and rehearsal.rescued_by_rate is not None:
        limit = Limit(rehearsal.rescued_by_rate, _UNIT, "rehearsed here: the loss fell under it")
        why = (
            f"The rate {number(rate)} is too high: the rehearsal diverges, and at "
            f"{number(rehearsal.rescued_by_rate)} its loss falls."
        )
    elif ceiling is not None and rate > ceiling and rehearsal.outcome != "falls":
        limit = Limit(ceiling, _UNIT, "range test here: above it the loss left its course")
        why = (
            f"The rate {number(rate)} lies above {number(ceiling)}, the highest that the range "
            "test sustained, and the rehearsal's loss does not fall."
        )
    elif rate_fault(measurements, settings) == "high":
        yield _seen(rate, measurements)
        return
    else:
        return
    curvature = measurements.curvature
    bears = None if curvature is None else curvature.rate_ceiling
    if bears is not None and bears.high is not None and rate > bears.high:
        why += f" The curvature at the start bears a rate of {number(bears.value)}."
    first = rehearsal.first_nonfinite
    if first is not None and first.op:  # else it is in a weight that a step itself made so
        place = f" in `{first.module}`" if first.module else ""
        at = "" if first.step is None else f" at step {first.step}"
        why += f" The first NaN or infinity comes from `{first.op}`{place}{at}."
    sure = rehearsal.outcome == "diverges" or _is_past(rate, measurements.rate_range, rehearsal)
    severity: Severity = "fail" if sure and not made_up(measurements) else "warn"
    yield Finding(CODE, NAME, severity, Where(), Estimate.exact(rate, _UNIT), limit, why)


def _seen(rate: float, measurements: Measurements) -> Finding:
    """Training went wrong under the rate, and goes well from the same start under another."""
    outlook = measurements.outlook
    assert outlook is not None
    own, other = outlook.own, outlook.reference
    assert other is not None
    ranged = measurements.rate_range
    if ranged is not None and ranged.ceiling is not None and rate > ranged.ceiling:
        limit = Limit(ranged.ceiling, _UNIT, "range test here: above it the loss left its course")
    else:
        limit = Limit(other.lr or 0.0, _UNIT, f"{other.optimizer}, followed from the same start")
    lowest, end = number(own.lowest), number(own.end)
    been = f" ({lowest} at its lowest)" if lowest != end else ""
    why = (
        f"The rate {number(rate)} is too high: after {own.steps} steps the loss is {end}{been}; "
        f"from the same start {other.optimizer} at {number(other.lr or 0.0)} brings it to "
        f"{number(other.end)}."
    )
    return Finding(CODE, NAME, "fail", Where(), Estimate.exact(rate, _UNIT), limit, why)


def _is_past(rate: float, ranged: RateRange | None, rehearsal: Rehearsal) -> bool:
    """Whether the rate is one that broke the range test, or the rehearsal's own loss rose."""
    if ranged is None or ranged.ceiling is None:
        return False
    broke = min((r for r in ranged.rates if r > ranged.ceiling), default=ranged.ceiling)
    return rate >= broke or max(rehearsal.losses) > _RISEN * abs(rehearsal.losses[0])
