"""Outputs of tanh or sigmoid that lie where the curve is flat.

## What it measures
The share of a module's outputs where the slope is below 2% of its peak, on the sample as given; its
interval is Wilson's over the units.

## Why it hurts
A flat curve passes no gradient: the layer is stuck where it is, and so is what feeds it.

## Example
```python
import torch

x = (10 * torch.randn(1000)).requires_grad_()
torch.tanh(x).sum().backward()
assert (x.grad < 0.02).float().mean() > 0.7
```

## Remedy
Scale the inputs to mean 0 and deviation 1, or draw the weights smaller.

## Safety
Changes start values. A trained gate or a confident output saturates rightly: on learned weights
this is milder.

## References
Glorot and Bengio 2010; SageMaker Debugger, SaturatedActivation.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, ModuleRow, Where
from gradaudit.rules._judge import all_the_same, judge, lower, made_up, softened, wilson
from gradaudit.rules._units import at_call, worst_calls
from gradaudit.settings import Settings

CODE = "GA402"
NAME = "saturated-units"
ORDER = 75
LIMITS = ("saturated_fraction_warn", "saturated_fraction_fail")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per module; of those that may be past the limit and are not, one in all."""
    warn = settings.limit("saturated_fraction_warn")
    fail = settings.limit("saturated_fraction_fail")
    judged = [
        (row, measured, found)
        for row in worst_calls(measurements, "saturated_fraction")
        if (measured := _share(row, measurements, warn.unit))
        and (found := judge(measured, warn=warn, fail=fail)) is not None
    ]
    past = [each for each in judged if each[1].value > warn.value]
    perhaps = sorted(judged, key=lambda each: -each[1].value)[:1]
    for row, measured, found in past or perhaps:
        severity = softened(found.severity, measurements)
        if made_up(measurements):
            severity = lower(severity)
        yield Finding(
            CODE,
            NAME,
            severity,
            Where(module=row.module, call=row.call),
            measured,
            found.limit,
            f"{measured.value:.0%} of the outputs of `{row.module}`{at_call(row)} lie where the "
            "curve is flat. Hardly any gradient passes to the layers before."
            + all_the_same(measurements),
        )


def _share(row: ModuleRow, measurements: Measurements, unit: str) -> Estimate:
    share = row.saturated_fraction or 0.0
    low, high = wilson(share, (row.units or 1) * (measurements.sample.batch_size or 1))
    return Estimate(share, min(low, share), max(high, share), unit)
