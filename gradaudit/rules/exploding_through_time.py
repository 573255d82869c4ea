"""Gradients grow on their way back through the time steps of a recurrent module.

## What it measures
The squared norm of the derivative of the last output by the input or state at the first step, over
that at the last step (`recurrent[].growth_log10`). It fails where the near end of the interval is
past the limit and the rehearsal does not train all the same.

## Why it hurts
Every step back multiplies the gradient by the recurrent Jacobian. Over a long sequence the update
is ruled by the oldest inputs; the first long sequence throws the weights off.

## Example
```python
import torch
from torch import nn

rnn = nn.RNN(1, 32, nonlinearity="relu")
with torch.no_grad():
    rnn.weight_hh_l0.copy_(1.05 * torch.eye(32))  # 1.05 ** 150 = 1500
```

## Remedy
Orthogonal recurrent weights (norm at most 1), and a clip at the measured gradient norm.

## Safety
Changes start values; the clip is recipe only.

## References
Pascanu et al. 2013, arXiv 1211.5063; Le et al. 2015, arXiv 1504.00941.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._judge import all_the_same, number, power
from gradaudit.rules._through_time import (
    judged_rows,
    one_per_module,
    per_step,
    through,
    time_severity,
    way_back,
)
from gradaudit.settings import Settings

CODE = "GA201"
NAME = "exploding-through-time"
ORDER = 60

_CONSEQUENCE = " The oldest inputs rule the update, and one long sequence can end in NaN."
LIMITS = ("time_growth_max",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per recurrent module."""
    return one_per_module(_found(measurements, settings))


def _found(measurements: Measurements, settings: Settings) -> Iterator[Finding]:
    for row, measured, limit, found in judged_rows(measurements, settings, above=True):
        severity = time_severity(row, found, measurements, settings, above=True)
        why = (
            f"Through {through(row)} the gradient grows {number(per_step(row, measured))}x per "
            f"step {way_back(row)}; after {row.steps} steps that is {power(measured.value / 2)}."
        )
        if severity == "note":
            why += " The interval reaches both sides of the limit."
        else:
            closing = all_the_same(measurements) if severity == "warn" else ""
            why += closing or _CONSEQUENCE
        yield Finding(CODE, NAME, severity, Where(module=row.module), measured, limit, why)
