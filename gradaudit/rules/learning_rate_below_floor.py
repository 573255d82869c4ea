"""The learning rate is so low that the loss hardly moves in the steps to be taken.

## What it measures
The share of the loss that all of the recipe's steps together take off at the slope seen in the
rehearsal, together with the given rate against the one of steepest fall in a range test. Both must
be low. A rate that was not given is never judged.

## Why it hurts
Nothing breaks, and nothing is learned: a night of compute for a loss that is where it was.

## Example
```python
import torch

w = torch.ones(1, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=1e-7)
for _ in range(20):
    optimizer.zero_grad()
    (w**2 / 2).sum().backward()
    optimizer.step()
assert w > 0.9999
```

## Remedy
The rate of steepest fall in the range test, times 1 - momentum, which one step at each rate does
not feel, and a tenth of that where the test met no ceiling. None beside another failing finding:
what the test finds on faulty data or start values is no rate for the mended net.

## Safety
Recipe only.

## References
Smith 2017, arXiv 1506.01186.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Limit, Measurements, Severity, Where
from gradaudit.rules._judge import learned, made_up, number
from gradaudit.rules._rate import rate_fault
from gradaudit.rules._scale import data_to_blame
from gradaudit.settings import Settings

CODE = "GA602"
NAME = "learning-rate-below-floor"
ORDER = 95
LIMITS = ("rate_floor_fall", "rate_gap")

_CEILING_TO_STEEPEST = 0.1  # the customary pick where only the ceiling is known


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    rate, rehearsal = measurements.recipe.lr, measurements.rehearsal
    best = steepest_rate(measurements)
    if rate is None or rehearsal is None or rehearsal.prescribed:
        return
    if rate_fault(measurements, settings) == "low":
        yield _seen(rate, measurements)
        return
    fall, limit = rehearsal.projected_fall, settings.limit("rate_floor_fall")
    if fall is None or fall >= limit.value or rehearsal.outcome == "diverges":
        return
    if best is not None and rate >= settings.limit("rate_gap").value * best:
        return  # the rate is sound; something else keeps the loss where it is
    # Without a range test, that the rate and nothing else is to blame is not shown.
    severity: Severity = "warn" if made_up(measurements) or best is None else "fail"
    if learned(measurements) or data_to_blame(measurements, settings):
        severity = "note"  # the loss has gone as far as it goes, or stays for another reason
    steps = measurements.recipe.steps
    yield Finding(
        CODE,
        NAME,
        severity,
        Where(),
        Estimate.exact(fall, limit.unit),
        limit,
        f"Under the rate {number(rate)}, {steps} steps take {max(0.0, fall):.1%} off the loss"
        + (f"; it falls fastest near {number(best)}" if best is not None else "")
        + ". Training would stall.",
    )


def _seen(rate: float, measurements: Measurements) -> Finding:
    """Training itself creeps under the rate, and comes down from the same start under another."""
    outlook = measurements.outlook
    assert outlook is not None
    own, other = outlook.own, outlook.reference
    assert other is not None
    limit = Limit(other.lr or 0.0, "learning rate", f"{other.optimizer}, from the same start")
    why = (
        f"The rate {number(rate)} is too low: the loss creeps from {number(own.start)} to "
        f"{number(own.end)} in {own.steps} steps; from the same start {other.optimizer} at "
        f"{number(other.lr or 0.0)} brings it to {number(other.end)} in {other.steps}."
    )
    return Finding(CODE, NAME, "fail", Where(), Estimate.exact(rate, limit.unit), limit, why)


def steepest_rate(measurements: Measurements) -> float | None:
    """The rate of steepest fall, or a tenth of the ceiling where that alone was found."""
    found = measurements.rate_range
    if found is None:
        return None
    if found.steepest is not None:
        return found.steepest
    return None if found.ceiling is None else found.ceiling * _CEILING_TO_STEEPEST
