"""An activation or a gradient is too large for fp16 and becomes infinite.

## What it measures
The largest number of a float32 forward pass that fp16 would have to hold, over every operation and
what it is fed, under `torch.autocast` (or wholly in fp16, where the weights are), and the largest
gradient. From 65520 on fp16 rounds to infinity. Where an activation overflows, the pass is run
again with the infinity in its place: one that changes neither loss nor gradient (a mask) is a note.
Silent unless the recipe or the weights ask for fp16.

## Why it hurts
The loss is infinite or NaN, the loss scaler skips every step, and no scale helps: it scales
gradients, not activations.

## Example
```python
import torch

x = torch.tensor([66246.0])
assert x.half().isinf()
assert x.bfloat16().isfinite()
```

## Remedy
Train in bf16, which has the range of float32; or bring the scale of the activations down.

## Safety
Recipe only.

## References
IEEE 754-2019; Micikevicius et al. 2018, arXiv 1710.03740.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, HalfRow, Measurements, Severity, Where
from gradaudit.rules._half import ROUNDING, scale_name, trained_in
from gradaudit.rules._judge import listed, made_up, number, standing
from gradaudit.settings import Settings

CODE = "GA701"
NAME = "fp16-overflow"
ORDER = 82
LIMITS = ("fp16_infinite", "underflow_max")

_NOT_MODULES = ("the model", "the loss")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most two findings: the forward pass, and the gradients."""
    found = trained_in(measurements, "fp16")
    if found is None:
        return
    precision, row = found
    yield from _forward(row, measurements, settings)
    yield from _backward(row, precision.loss_scale, measurements, settings)


def _forward(row: HalfRow, measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    limit = settings.limit("fp16_infinite")
    if row.largest_activation is None:
        return
    measured = _rounded(row.largest_activation, limit.unit)
    at = standing(measured, limit)
    if at == "within":
        return
    severity: Severity = "warn" if made_up(measurements) else "fail"
    end = "The loss becomes infinite or NaN, or is another one, from the first step on."
    if at == "straddles":
        severity, end = "note", "Rounding decides whether it becomes infinite."
    elif row.overflow_spreads is False:
        severity, end = "note", "The infinity does not reach the loss, which stays what it is."
    place = row.largest_activation_at
    first = row.overflows_in[0] if row.overflows_in else place
    yield Finding(
        CODE,
        NAME,
        severity,
        Where(module="" if first in _NOT_MODULES else first),
        measured,
        limit,
        f"The forward pass reaches {number(row.largest_activation)} in {_named(place)} "
        f"(`{row.largest_activation_op}`), and fp16 ends at 65504; it overflows in "
        f"{', '.join(_named(name) for name in row.overflows_in[:3]) or 'no operation yet'}"
        f"{' and more' if len(row.overflows_in) > 3 else ''}. {end}",
    )


def _backward(
    row: HalfRow, scale: float | None, measurements: Measurements, settings: Settings
) -> Iterable[Finding]:
    limit, largest = settings.limit("fp16_infinite"), row.largest_gradient
    if largest is None or scale is None:
        return
    measured = _rounded(largest, limit.unit)
    at = standing(measured, limit)
    if at == "within":
        return
    lost, most = row.underflow_scaled, settings.limit("underflow_max")
    usable = lost is None or standing(lost, most) != "past"
    severity: Severity = "warn" if usable or made_up(measurements) else "fail"
    if at == "straddles":
        severity = "note"
    end = (
        f"A loss scale of {scale_name(scale)} keeps them in range; one that starts at 65536 skips "
        "every step until it is there."
        if usable or lost is None
        else f"The scale that holds them ({scale_name(scale)}) rounds {lost.value:.0%} of the "
        "others to zero."
    )
    yield Finding(
        CODE,
        NAME,
        severity,
        Where(),
        measured,
        limit,
        f"The gradients reach {number(largest)}, and fp16 ends at 65504. {end}",
    )


def _rounded(value: float, unit: str) -> Estimate:
    return Estimate(value, value * (1 - ROUNDING), value * (1 + ROUNDING), unit)


def _named(place: str) -> str:
    return place if place in _NOT_MODULES else listed([place])
