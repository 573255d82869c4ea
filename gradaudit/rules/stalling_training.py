"""Training with the recipe itself gets less than halfway to what the task allows.

## What it measures
Where steps are small enough, the recipe is followed for as many of its steps as the effort affords.
The number is how far the loss gets from the best constant prediction (0) to a perfect one (1) by
the recipe's last step. Where that step was not reached, each further doubling of the steps is taken
to bring what the last one brought. A plateau that a steady recipe (AdamW with warm-up and clipping)
does not get below either is the task's own floor, and no stall. A sample that is learned by heart
while a batch held out gets no better is one.

## Why it hurts
A loss that is not halfway by then has learned what is easy, or nothing: more of the same steps do
not bring the rest.

## Example
```python
import torch
from torch import nn

model = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(64, 64), nn.Sigmoid())])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
```

## Remedy
Look at the other findings first. If there is none, the report lists which changes were tried on a
copy and what they came to.

## Safety
Nothing is changed by the rule.

## References
Smith 2017, arXiv 1506.01186; Glorot and Bengio 2010 for plateaus of the untrained net.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Limit, Measurements, Outlook, Severity, Where
from gradaudit.rules._judge import made_up, number, plural
from gradaudit.rules._outlook import HALFWAY, reading
from gradaudit.settings import Settings

CODE = "GA609"
NAME = "stalling-training"
ORDER = 120
LIMITS = ()

_UNIT = "share of the way from the best constant prediction to a perfect one"


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, only for a recipe that was given."""
    read, outlook, rehearsal = reading(measurements), measurements.outlook, measurements.rehearsal
    if read is None or outlook is None or read.course != "stalls":
        return
    if rehearsal is None or rehearsal.prescribed or made_up(measurements):
        return
    severity: Severity = "fail" if read.sure or read.share >= 1 else "warn"
    limit = Limit(HALFWAY, _UNIT, "what the forecast means by a stall")
    measured = Estimate.exact(max(0.0, read.progress or 0.0), _UNIT)
    yield Finding(CODE, NAME, severity, Where(), measured, limit, _why(outlook, read.progress))


def _why(outlook: Outlook, progress: float | None) -> str:
    own, reference = outlook.own, outlook.reference
    words = (
        f"{plural(own.steps, 'step')} of the recipe take the loss from {number(own.start)} to "
        f"{number(own.end)}"
    )
    if outlook.constant is not None:
        words += f", where a constant prediction costs {number(outlook.constant)}"
    if own.steps < outlook.of:
        words += f"; {outlook.of} are expected to get {max(0.0, progress or 0.0):.0%} of the way"
    words += "."
    if reference is not None and reference.broke_at is None and reference.end < own.end:
        words += (
            f" From the same start {reference.optimizer} at {number(reference.lr or 0.0)} with "
            f"warm-up and clipping comes to {number(reference.end)} in "
            f"{plural(reference.steps, 'step')}."
        )
    return words
