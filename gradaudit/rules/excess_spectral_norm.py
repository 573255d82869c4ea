"""A weight stretches some direction far more than random weights of its shape would.

## What it measures
The largest singular value of the operator (for a convolution: with its padding, stride and the
input size seen) over the one that independent entries of variance 1/fan_in would have. The lower
end of the interval is judged. Of learned weights in a file without a model it is only told, up to
ten times what nets that work have; of frozen weights always.

## Why it hurts
One direction of the input is blown up and drowns the rest; the largest stable learning rate falls
with the square of the norm.

## Example
```python
import torch
from torch import nn

layer = nn.Linear(256, 256)
nn.init.normal_(layer.weight)  # norm 2 sqrt(256) = 32 where 2 would do
assert torch.linalg.matrix_norm(layer.weight, 2) > 25
```

## Remedy
On start weights: draw them smaller. On learned ones: a spectral norm cap where the stable rank is
low, weight decay where all singular values are large.

## Safety
Changes start values. Before a normalisation layer it only changes the effective rate.

## References
Bai and Yin 1993; Miyato et al. 2018, arXiv 1802.05957; Yoshida and Miyato 2017, arXiv 1705.10941.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, WeightRow, Where
from gradaudit.rules._judge import all_the_same, judge, made_up, number, softened
from gradaudit.settings import Settings

CODE = "GA301"
NAME = "excess-spectral-norm"
ORDER = 85
LIMITS = ("spectral_excess_warn", "spectral_excess_fail", "spectral_excess_learned")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per weight."""
    warn, fail = settings.limit("spectral_excess_warn"), settings.limit("spectral_excess_fail")
    # That weights look learned is no evidence that they work where no loss on real data was seen,
    # but those of nets that do work go beyond what a start may have.
    seen = measurements.loss or measurements.rehearsal
    shown = seen is not None and not made_up(measurements)
    unseen = not shown and measurements.state.state == "trained"
    if unseen:
        fail = settings.limit("spectral_excess_learned")
    frozen = {row.parameter for row in measurements.parameters if not row.trainable}
    for row in measurements.weights:
        measured = excess(row, warn.unit)
        if measured is None:
            continue
        judged = judge(measured, warn=warn, fail=fail)
        if judged is None:
            continue
        severity = judged.severity
        if row.parameter in frozen:  # a constant of the model's design, which is not to be changed
            severity = "note"
        elif shown:
            severity = softened(severity, measurements)
        elif unseen and severity == "warn":  # a norm alone is told, and judged far up only
            severity = "note"
        yield Finding(
            CODE,
            NAME,
            severity,
            Where(module=row.module, parameter=row.parameter),
            measured,
            judged.limit,
            _why(row, measured) + (all_the_same(measurements) if shown else ""),
        )


def excess(row: WeightRow, unit: str) -> Estimate | None:
    """The norm in units of the critical edge."""
    norm, edge = row.spectral_norm, row.critical_edge
    if norm is None or edge is None or edge <= 0:
        return None
    low = None if norm.low is None else norm.low / edge
    high = None if norm.high is None else norm.high / edge
    return Estimate(norm.value / edge, low, high, unit)


def _why(row: WeightRow, measured: Estimate) -> str:
    norm = row.spectral_norm
    assert norm is not None  # excess() was given
    rank = row.stable_rank
    shape = ""
    if rank is not None:
        kind = "one direction stands out" if rank < 2 else "many directions are large"
        shape = f" Its stable rank is {number(rank)}: {kind}."
    return (
        f"`{row.parameter}` has spectral norm {number(norm.value)}, {number(measured.value)} times "
        f"that of critical random weights of its shape.{shape} It multiplies gradients by as much."
    )
