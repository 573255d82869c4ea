"""Most weights are frozen at their random start, and what is left does not learn the task.

## What it measures
The share of the entries of all weights and biases that have `requires_grad=False`, where the
weights are a start and not learned, and where training with the recipe was seen to stall.

## Why it hurts
Random features that stay random limit what the rest can do. That is a design in some nets (and then
they train); in others it is a loop over `parameters()` that was meant for a pretrained backbone.

## Example
```python
from torch import nn

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
for parameter in model[0].parameters():
    parameter.requires_grad = False
```

## Remedy
Unfreeze what has not been trained.

## Safety
Changes which parameters train, not their values.

## References
Yosinski et al. 2014, arXiv 1411.1792 (frozen features that transfer); Rahimi and Recht 2008 (random
features that suffice).
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import learned, listed, made_up
from gradaudit.rules._outlook import reading
from gradaudit.settings import Settings

CODE = "GA105"
NAME = "mostly-frozen"
ORDER = 42
LIMITS = ("frozen_fail",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, about the model."""
    read = reading(measurements)
    if read is None or read.course != "stalls" or made_up(measurements) or learned(measurements):
        return
    frozen = frozen_weights(measurements)
    whole = sum(row.size for row in measurements.parameters)
    limit = settings.limit("frozen_fail")
    share = sum(row.size for row in measurements.parameters if row.parameter in frozen) / max(
        whole, 1
    )
    if share <= limit.value:
        return
    yield Finding(
        CODE,
        NAME,
        "fail",
        Where(),
        Estimate.exact(share, limit.unit),
        limit,
        f"{share:.0%} of the parameters are frozen at their random start ({listed(frozen)}), and "
        "what is left to train does not learn the task.",
    )


def frozen_weights(measurements: Measurements) -> tuple[str, ...]:
    """Names of the parameters that training does not change, in the order of the model."""
    return tuple(row.parameter for row in measurements.parameters if not row.trainable)
