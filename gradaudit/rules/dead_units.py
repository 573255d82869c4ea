"""Units of a ReLU-like layer that are silent on the whole sample.

## What it measures
The share of a module's units whose output is zero on every sample of the batch. A live unit may be
silent on a small batch by chance: the interval's lower end, which is judged, leaves out what units
active on one sample in ten would show.

## Why it hurts
A silent ReLU passes no gradient: the unit does not learn, and what feeds it learns nothing from it.
A layer that is all silent cuts the net in two.

## Example
```python
import torch
from torch import nn

layer = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
nn.init.constant_(layer[0].bias, -15.0)
assert layer(torch.randn(64, 16)).max() == 0
```

## Remedy
Reset the bias to zero and the weights to He's scale, or use a leaky activation; lower the rate if
units die during training.

## Safety
Changes start values; the leaky activation changes the architecture and is only shown.

## References
Lu et al. 2019, arXiv 1903.06733; Maas et al. 2013; SageMaker Debugger, DeadRelu.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, ModuleRow, Where
from gradaudit.rules._judge import all_the_same, judge, lower, made_up, softened
from gradaudit.rules._units import at_call, worst_calls
from gradaudit.settings import Settings

CODE = "GA401"
NAME = "dead-units"
ORDER = 45
LIMITS = ("dead_fraction_warn", "dead_fraction_fail")

_RARELY_ACTIVE = 0.1  # a unit active on one sample in ten is alive


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per module."""
    warn, fail = settings.limit("dead_fraction_warn"), settings.limit("dead_fraction_fail")
    for row in worst_calls(measurements, "dead_fraction"):
        measured = dead_share(row, measurements.sample.batch_size or 1, warn.unit)
        if measured.low == 0:
            continue  # a sample this small shows as much by chance
        judged = judge(measured, warn=warn, fail=fail)
        if judged is None:
            continue
        severity = softened(judged.severity, measurements)
        if made_up(measurements):
            severity = lower(severity)
        yield Finding(
            CODE,
            NAME,
            severity,
            Where(module=row.module, call=row.call),
            measured,
            judged.limit,
            f"{row.dead_fraction:.0%} of the units of `{row.module}`{at_call(row)} are silent on "
            "the whole sample. They pass no gradient to the layers before."
            + all_the_same(measurements),
        )


def dead_share(row: ModuleRow, batch: int, unit: str) -> Estimate:
    """Share of dead units, between what chance cannot explain and all that were silent."""
    silent = row.dead_fraction or 0.0
    by_chance = (1.0 - _RARELY_ACTIVE) ** batch
    beyond_chance = max(0.0, (silent - by_chance) / (1.0 - by_chance))
    return Estimate(silent, beyond_chance, silent, unit)
