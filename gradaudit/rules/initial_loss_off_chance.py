"""The classifier starts out worse than a uniform guess.

## What it measures
The loss before training over that of the uniform guess (ln C). Silent for regression, and on
learned weights where the targets are made up. Where the scale of the input is behind it and is no
more than a warning (GA501), so is this.

## Why it hurts
The start weights make confident random predictions. The first steps go into taking them back, with
gradients far larger than those that come later; under a rate fit for later they may diverge.

## Example
```python
import math

import torch
from torch import nn

embedding = nn.Embedding(1000, 256)  # N(0, 1), tied to the output: logits of deviation 16
hidden = torch.randn(64, 256)
loss = nn.functional.cross_entropy(hidden @ embedding.weight.T, torch.randint(1000, (64,)))
assert loss > 5 * math.log(1000)
```

## Remedy
Draw the last layer (or the tied embedding) smaller, so that the logits start near zero.

## Safety
Changes start values.

## References
Karpathy 2019, "A Recipe for Training Neural Networks", verify loss @ init.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import all_the_same, judge, learned, lower, made_up, number, softened
from gradaudit.rules._scale import UNDER_ADAPTIVE, lived_with, unscaled
from gradaudit.settings import Settings

CODE = "GA503"
NAME = "initial-loss-off-chance"
ORDER = 80
LIMITS = ("initial_loss_warn", "initial_loss_fail")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, on the head."""
    loss = measurements.loss
    if loss is None or loss.initial is None or not loss.chance or loss.chance <= 0:
        return
    if learned(measurements) and made_up(measurements):
        return  # a model that learned something is rightly surprised by random labels
    warn, fail = settings.limit("initial_loss_warn"), settings.limit("initial_loss_fail")
    start, chance = loss.initial, loss.chance
    measured = Estimate(
        start.value / chance,
        None if start.low is None else start.low / chance,
        None if start.high is None else start.high / chance,
        warn.unit,
    )
    judged = judge(measured, warn=warn, fail=fail)
    if judged is None:
        return
    severity = softened(judged.severity, measurements)
    if made_up(measurements):
        severity = lower(severity)
    excused = severity == "fail" and _follows_from_input(measurements, settings)
    if excused:
        severity = lower(severity)
    head = next((stage for stage in measurements.stages if stage.role == "head"), None)
    among = f" among {loss.classes} classes" if loss.classes else ""
    yield Finding(
        CODE,
        NAME,
        severity,
        Where(module=head.name, stage=head.index) if head else Where(),
        measured,
        judged.limit,
        f"The loss starts at {number(start.value)} where a uniform guess{among} costs "
        f"{number(chance)}. The first steps go into taking back confident random predictions."
        + all_the_same(measurements)
        + (UNDER_ADAPTIVE if excused else ""),
    )


def _follows_from_input(measurements: Measurements, settings: Settings) -> bool:
    """Whether inputs far too large are behind it, of which GA501 only warns."""
    large = [
        found
        for found in unscaled(measurements, settings, "input")
        if found.judged.severity == "fail" and not found.row.normalized_by_model
    ]
    return bool(large) and all(lived_with(found, measurements, settings) for found in large)
