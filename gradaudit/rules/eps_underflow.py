"""Adam's eps is too small for fp16, so that its step divides by zero.

## What it measures
The smallest eps among the parameter groups of the recipe's optimizer, where the weights are in fp16
and its state with them: at most 2^-25 it is zero there, and below 1e-4 it is smaller than the
square roots that round to zero beside it. With float32 weights under `torch.autocast` the state is
in float32 too, and an eps that would be zero is a note only. Silent unless the recipe or the
weights ask for fp16.

## Why it hurts
The squared gradients round to zero first. Where eps is zero as well the step is 0 / 0 or infinite,
and the weights are gone after one step.

## Example
```python
import torch

w = torch.nn.Parameter(torch.ones(2, dtype=torch.half))
w.grad = torch.tensor([1e-5, 0.0], dtype=torch.half)
torch.optim.Adam([w], lr=1e-3, eps=1e-8).step()
assert not w.isfinite().any()
```

## Remedy
`eps=1e-4`, or weights in float32 under `torch.autocast`.

## Safety
Recipe only.

## References
Kingma and Ba 2015, arXiv 1412.6980, algorithm 1; IEEE 754-2019.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Severity, Where
from gradaudit.rules._half import trained_in
from gradaudit.rules._judge import contradicted, lower, number
from gradaudit.settings import Settings

CODE = "GA704"
NAME = "eps-underflow"
ORDER = 88
LIMITS = ("half_eps_min",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    found = trained_in(measurements, "fp16")
    if found is None:
        return
    precision, row = found
    limit, eps = settings.limit("half_eps_min"), precision.eps
    pure = precision.regime == "pure"
    if eps is None or eps >= limit.value or not (pure or row.eps_flushed):
        return
    severity: Severity = "fail" if row.eps_flushed else "warn"
    if pure and contradicted(measurements):
        severity = lower(severity)
    end = (
        "The step divides by zero wherever the squared gradient rounds to zero."
        if row.eps_flushed
        else "It is held against square roots that round to zero below 2^-12."
    )
    if not pure:
        severity = "note"
        end = "Harmless while weights and optimizer state are in float32, as under torch.autocast."
    what = "is zero in fp16" if row.eps_flushed else "is small for fp16"
    yield Finding(
        CODE,
        NAME,
        severity,
        Where(),
        Estimate.exact(eps, limit.unit),
        limit,
        f"The optimizer's eps of {number(eps)} {what}. {end}",
    )
