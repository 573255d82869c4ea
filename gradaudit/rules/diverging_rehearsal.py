"""The loss leaves for good in the rehearsal, and neither the rate nor an operation explains it.

## What it measures
Whether the recipe's own steps on the sample end with a loss that is not finite or far above where
it started (`rehearsal.outcome`), where the rate is not known to be too high (that is GA601) and no
operation, constant or weight was found to hold the first NaN (that is GA001). A loss that is not
finite before the first step counts too.

## Why it hurts
What leaves within a few steps does not come back: the run is lost, whatever the cause.

## Example
```python
import torch

# Squares of half-precision gradients underflow to zero, and Adam divides by their root.
weight = torch.ones(4, dtype=torch.float16, requires_grad=True)
optimizer = torch.optim.Adam([weight], lr=1e-3, eps=1e-8)
```

## Remedy
Look at the other findings first. If there is none, train in float32 or bfloat16, lower the rate a
thousandfold to see whether it ever falls, and look at the batch at which it left.

## Safety
Nothing is changed.

## References
Smith 2017, arXiv 1506.01186; Lewkowycz et al. 2020, arXiv 2003.02218 (losses that come back).
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Limit, Measurements, Where
from gradaudit.rules import learning_rate_above_ceiling
from gradaudit.rules._judge import number, plural
from gradaudit.settings import Settings

CODE = "GA603"
NAME = "diverging-rehearsal"
ORDER = 119
LIMITS = ()

_UNIT = "rehearsed steps"


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, only for a recipe that was given."""
    rehearsal = measurements.rehearsal
    if rehearsal is None or rehearsal.outcome != "diverges" or rehearsal.prescribed:
        return
    if rehearsal.first_nonfinite is not None:
        return
    if any(learning_rate_above_ceiling.check(measurements, settings)):
        return
    lasted, meant = len(rehearsal.losses), settings.budget.rehearsal_steps
    why = (
        "The loss or its gradient is not finite before the first step, and what made it so was not "
        "found: no rate is to blame."
    )
    if rehearsal.losses:
        why = (
            f"In the rehearsal the loss leaves for good after {plural(lasted, 'step')}, and no "
            "lower rate that mends it was found in the few steps this effort has for trying."
        )
        why += f" It went from {number(rehearsal.losses[0])} to {number(rehearsal.losses[-1])}."
    limit = Limit(float(meant), _UNIT, "the length of the rehearsal at this effort")
    yield Finding(CODE, NAME, "fail", Where(), Estimate.exact(float(lasted), _UNIT), limit, why)
