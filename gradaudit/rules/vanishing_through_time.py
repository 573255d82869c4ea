"""Gradients die out on their way back through the time steps of a recurrent module.

## What it measures
The squared norm of the derivative of the last output by the input or state at the first step, over
that at the last step (`recurrent[].growth_log10`), and the horizon: the lag at which the gradient
has fallen below 1%. A sound LSTM forgets too, so it fails only where the loss reads the last step
alone and does not fall in a rehearsal on real data. It is a warning where the loss falls without
getting below a constant prediction, or where there is no such rehearsal; it is a note where
training gets below it, or where the loss reads the early steps directly.

## Why it hurts
What happened before the horizon cannot be learned from: the loss does not reach it.

## Example
```python
import torch
from torch import nn

lstm = nn.LSTM(1, 32)  # forget bias 0: half of the cell is lost at every step
x = torch.randn(300, 4, 1, requires_grad=True)
lstm(x)[0][-1].sum().backward()
assert x.grad[0].abs().max() < 1e-20
```

## Remedy
Orthogonal recurrent weights; for an LSTM a forget bias of +1, or one drawn for the length of the
sequence (chrono), as the sum of PyTorch's two biases. Clipping cannot mend it.

## Safety
Changes start values.

## References
Hochreiter and Schmidhuber 1997; Jozefowicz et al. 2015; Tallec and Ollivier 2018, arXiv 1804.11188.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradaudit.records import Estimate, Finding, Measurements, RecurrentRow, Where
from gradaudit.rules._judge import Standing, number, power
from gradaudit.rules._through_time import (
    excused,
    judged_rows,
    no_usable_rehearsal,
    one_per_module,
    per_step,
    read_directly,
    through,
    time_severity,
    way_back,
)
from gradaudit.settings import Settings

CODE = "GA202"
NAME = "vanishing-through-time"
ORDER = 65
LIMITS = ("time_growth_min",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per recurrent module."""
    return one_per_module(_found(measurements, settings))


def _found(measurements: Measurements, settings: Settings) -> Iterator[Finding]:
    for row, measured, limit, found in judged_rows(measurements, settings, above=False):
        bound = "at most " if measured.low is None else ""
        why = (
            f"Through {through(row)} the gradient shrinks {_rate(row, measured)}x per step "
            f"{way_back(row)}; after {row.steps} steps {bound}{power(measured.value / 2)} is left. "
            f"{_horizon(row)}"
        )
        severity = time_severity(row, found, measurements, settings, above=False)
        why = f"{why} {_closing(row, found, measurements, settings)}"
        yield Finding(CODE, NAME, severity, Where(module=row.module), measured, limit, why)


def _rate(row: RecurrentRow, measured: Estimate) -> str:
    """By how much each step divides it."""
    kept = per_step(row, measured)
    return number(1 / kept) if kept > 0 else power(300)


def _horizon(row: RecurrentRow) -> str:
    if row.horizon is None:
        return "Nothing at the start of the sequence can be learned from."
    return f"Nothing more than {row.horizon} steps back can be learned from."


def _closing(
    row: RecurrentRow, found: Standing, measurements: Measurements, settings: Settings
) -> str:
    if found == "straddles":
        return "The interval reaches both sides of the limit."
    if read_directly(row, settings):
        return "The loss reads the early steps directly; only links between far steps are lost."
    if excused(measurements):
        return "Training works all the same: the task does not need that memory."
    if no_usable_rehearsal(measurements, settings):
        return "Whether the task needs that memory, no sound rehearsal tells."
    return "In the rehearsal the loss does not get below a constant prediction."
