"""Many gradient entries are too small for fp16 and become zero without a loss scale.

## What it measures
The share of nonzero gradient entries, of activations and weights, that are at most 2^-25 in size
and so round to zero in fp16: unscaled, and at the loss scale that puts the largest sixteen times
below fp16's end. Silent unless the recipe or the weights ask for fp16.

## Why it hurts
What rounds to zero teaches nothing: the layers whose gradients are small stand still.

## Example
```python
import torch

g = torch.tensor([2.0**-25])
assert g.half() == 0
assert (g * 4096).half() != 0
```

## Remedy
Scale the loss by the power of two that is given, and divide the gradients by it before clipping and
the step: `torch.amp.GradScaler(init_scale=...)`. Where even that loses too many, bf16.

## Safety
Recipe only.

## References
Micikevicius et al. 2018, arXiv 1710.03740, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._half import scale_name, trained_in
from gradaudit.rules._judge import made_up, standing
from gradaudit.settings import Settings

CODE = "GA702"
NAME = "fp16-underflow"
ORDER = 84
LIMITS = ("underflow_max",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    found = trained_in(measurements, "fp16")
    if found is None:
        return
    precision, row = found
    limit = settings.limit("underflow_max")
    if row.underflow is None:
        return
    stands = standing(row.underflow, limit)
    if stands == "within":
        return
    lost, scale = row.underflow_scaled, precision.loss_scale
    end = ""
    if lost is not None and scale is not None:
        mends = standing(lost, limit) != "past"
        end = f" A loss scale of {scale_name(scale)} " + (
            f"leaves {lost.value:.1%}." if mends else f"still loses {lost.value:.0%}."
        )
    at = row.underflow_at
    inside = f", most of them in `{at}`" if at and not at.startswith("the ") else ""
    yield Finding(
        CODE,
        NAME,
        "note" if made_up(measurements) or stands == "straddles" else "warn",
        Where(module="" if at.startswith("the ") else at),
        row.underflow,
        limit,
        f"{row.underflow.value:.0%} of the gradient entries round to zero in fp16 without a loss "
        f"scale{inside}.{end}",
    )
