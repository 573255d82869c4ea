"""The gate that keeps the state is too far closed for the length of the sequence.

## What it measures
The mean of an LSTM's forget gate (of a GRU: its update gate) over units, steps and sequences of the
sample (`recurrent[].forget_gate`), and what is left of a state that is multiplied by it at every
step of the sequence. It speaks only where the gradient does vanish through time (GA202): a gate at
one half is what every LSTM starts with, and many a task is learned from it. It warns where that
finding fails the audit, for it names the cause; else it is a note.

## Why it hurts
A gate at f keeps a memory of about 1 / (1 - f) steps: two steps at one half. What is older can be
learned from only by way of the recurrent weights, which usually shrink it further.

## Example
```python
import torch
from torch import nn

lstm = nn.LSTM(1, 32)
forget = (lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4)[1].sigmoid()
assert 0.4 < forget.mean() < 0.6  # of 300 steps two are remembered
```

## Remedy
A forget bias of +1, or one drawn for the length of the sequence (chrono: the logarithm of a number
between 1 and T - 1, its negative on the input gate), as the sum of PyTorch's two biases.

## Safety
Changes start values.

## References
Gers et al. 2000; Jozefowicz et al. 2015; Tallec and Ollivier 2018, arXiv 1804.11188.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from gradaudit.records import Estimate, Finding, Limit, Measurements, RecurrentRow, Where
from gradaudit.rules._judge import number, power, standing
from gradaudit.rules._through_time import (
    excused,
    gate_name,
    judged_rows,
    one_per_module,
    read_directly,
    time_severity,
)
from gradaudit.settings import Settings

CODE = "GA203"
NAME = "forget-gate-closed"
ORDER = 66
LIMITS = ("gate_reach_min",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding per recurrent module."""
    return one_per_module(_found(measurements, settings))


def _found(measurements: Measurements, settings: Settings) -> Iterator[Finding]:
    for row, _, _, reaches in judged_rows(measurements, settings, above=False):
        if row.forget_gate is None or row.steps < 2 or reaches != "past":
            continue
        limit = needed_gate(row.steps, settings.limit("gate_reach_min"))
        closed = standing(row.forget_gate, limit, above=False)
        if closed == "within":
            continue
        vanishing = time_severity(row, reaches, measurements, settings, above=False)
        warns = vanishing == "fail" and closed == "past"
        why = f"{_why(row, row.forget_gate, limit)} {_closing(row, measurements, settings, warns)}"
        where = Where(module=row.module)
        yield Finding(CODE, NAME, "warn" if warns else "note", where, row.forget_gate, limit, why)


def needed_gate(steps: int, reach: Limit) -> Limit:
    """The mean gate whose product over ``steps`` is the limit's."""
    needed = reach.value ** (1 / (steps - 1))
    return Limit(
        needed, f"mean gate that keeps {number(reach.value)} over {steps} steps", reach.source
    )


def _why(row: RecurrentRow, gate: Estimate, limit: Limit) -> str:
    mean = min(max(gate.value, 1e-300), 1.0)
    left = power((row.steps - 1) * math.log10(mean))
    return (
        f"The {gate_name(row)} of `{row.module}` is open to {number(gate.value)} on average: "
        f"over {row.steps} steps it keeps {left} of the state. It would take {limit.value:.4g}."
    )


def _closing(row: RecurrentRow, measurements: Measurements, settings: Settings, warns: bool) -> str:
    if warns:
        return "This is why the gradient does not reach back (GA202)."
    if read_directly(row, settings):
        return "The loss reads the early steps directly."
    if excused(measurements):
        return "Training works all the same: the task does not need that memory."
    return "It matters if the task needs that memory (GA202)."
