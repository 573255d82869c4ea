"""Most updates are too small for bf16 weights and round away.

## What it measures
The share of weights which, rounded to bf16, are the same before and after the recipe's first step:
those it changes by less than 2^-9 of their size for sure. It matters where the weights are kept in
bf16 without a float32 copy; under `torch.autocast` with float32 weights it is a note only. Silent
unless the recipe or the weights ask for bf16.

## Why it hurts
A weight that rounds back to where it was never moves, however many steps are taken: small updates
do not add up.

## Example
```python
import torch

w = torch.ones(1, dtype=torch.bfloat16)
for _ in range(1000):
    w -= 1e-3  # less than 2^-9 of the weight
assert w == 1
```

## Remedy
Keep the weights in float32 and compute in bf16: `torch.autocast`. Or an optimizer with a float32
copy of the weights, Kahan summation or stochastic rounding.

## Safety
Recipe only.

## References
Zamirai et al. 2020, arXiv 2010.06192; Micikevicius et al. 2018, arXiv 1710.03740, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._half import trained_in
from gradaudit.rules._judge import standing
from gradaudit.settings import Settings

CODE = "GA703"
NAME = "bf16-lost-updates"
ORDER = 86
LIMITS = ("lost_updates_max",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    found = trained_in(measurements, "bf16")
    if found is None:
        return
    precision, row = found
    limit = settings.limit("lost_updates_max")
    if row.lost_updates is None:
        return
    pure, at = precision.regime == "pure", standing(row.lost_updates, limit)
    if at == "within" or (at == "straddles" and not pure):
        return
    end = (
        "The weights are in bf16, so these stand still."
        if pure
        else "Under torch.autocast they are in float32, which is fine; model.bfloat16() stops them."
    )
    yield Finding(
        CODE,
        NAME,
        "warn" if pure and at == "past" else "note",
        Where(),
        row.lost_updates,
        limit,
        f"The recipe's first step is lost to rounding in {row.lost_updates.value:.0%} of the "
        f"weights if they are kept in bf16. {end}",
    )
