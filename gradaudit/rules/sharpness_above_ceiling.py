"""The loss is more sharply curved at the start than the recipe's learning rate bears.

## What it measures
The largest eigenvalue of the loss's Hessian at the start weights, preconditioned where the
optimizer is adaptive, against the largest at which the optimizer is stable on a quadratic with the
given rate (2 / lr for plain descent). The whole interval must lie above it. The start alone does
not decide: what the rehearsal did sets the severity. A rate that was not given is never judged.

## Why it hurts
Along that direction every step overshoots by more than the one before. Some runs are thrown into a
flatter place and train on from there, others never come back.

## Example
```python
import torch

w = torch.ones(2, requires_grad=True)
curvature = torch.tensor([1.0, 30.0])
optimizer = torch.optim.SGD([w], lr=0.1)  # bears a curvature of 2 / 0.1 = 20
for _ in range(20):
    optimizer.zero_grad()
    (curvature * w**2 / 2).sum().backward()
    optimizer.step()
assert w[0].abs() < 1 < 1000 < w[1].abs()
```

## Remedy
A lower rate, or a warm-up to it. None beside another failing finding, which may be what sharpens
the loss: mend that one first.

## Safety
Recipe only.

## References
Cohen et al. 2021, arXiv 2103.00065, and 2022, arXiv 2207.14484 (adaptive methods); Lewkowycz et al.
2020, arXiv 2003.02218 (catapults); Gilmer et al. 2021, arXiv 2110.04369 (warm-up).
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Curvature, Estimate, Finding, Limit, Measurements, Severity, Where
from gradaudit.rules._judge import is_adaptive, learned, lower, made_up, number, standing
from gradaudit.settings import Settings

CODE = "GA604"
NAME = "sharpness-above-ceiling"
ORDER = 92
LIMITS = ()


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding."""
    curvature, rehearsal = measurements.curvature, measurements.rehearsal
    rate = measurements.recipe.lr
    if curvature is None or rate is None or (rehearsal is not None and rehearsal.prescribed):
        return
    sharpness, ceiling = felt(curvature), curvature.ceiling
    if sharpness is None or ceiling is None:
        return
    source = f"{curvature.rule} of {curvature.optimizer} at lr = {rate:g}, on a quadratic"
    limit = Limit(ceiling.value, ceiling.unit, source)
    at = standing(sharpness, limit)
    if at == "within":
        return
    severity, then = _rehearsed(measurements, curvature)
    if at == "straddles":
        severity = "note"
    bears = curvature.rate_ceiling
    why = (
        f"At the start the loss has a curvature of {number(sharpness.value)}, and "
        f"{curvature.optimizer} at the rate {number(rate)} is stable up to {number(ceiling.value)}"
        + (f" (this curvature bears a rate of {number(bears.value)})" if bears else "")
        + f". {then}"
    )
    yield Finding(CODE, NAME, severity, Where(), sharpness, limit, why)


def felt(curvature: Curvature) -> Estimate | None:
    """The eigenvalue that decides for this optimizer."""
    if is_adaptive(curvature.optimizer):
        return curvature.preconditioned_sharpness
    return curvature.sharpness


def _rehearsed(measurements: Measurements, curvature: Curvature) -> tuple[Severity, str]:
    """What the rehearsal makes of it: it decides, not the curvature of one point."""
    rehearsal = measurements.rehearsal
    if rehearsal is None:
        return "note", "No rehearsal shows what training makes of it."
    if rehearsal.outcome == "falls":
        return "note", "The rehearsal's loss falls all the same, so this is no reason for alarm."
    if rehearsal.outcome == "flat":
        if learned(measurements):
            return "note", "The weights are learned, and the rehearsal's loss stays where it is."
        return "warn", "In the rehearsal the loss does not fall."
    severity: Severity = "fail"
    if is_adaptive(curvature.optimizer):
        severity = lower(severity)  # the second moment has yet to settle, and the rate with it
    if made_up(measurements):
        severity = "warn"
    return severity, "In the rehearsal the loss diverges."
