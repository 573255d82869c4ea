"""Trainable parameters that the loss does not reach.

## What it measures
The share of trainable parameters (by number of entries) that have no path from the loss in the
autograd graph. Any is a warning; more than half fails.

## Why it hurts
Such parameters never change. Most often a `detach()`, a `no_grad()`, a conversion to NumPy or a
forgotten submodule cut them off, and what remains trains on random features.

## Example
```python
import torch
from torch import nn

body, head = nn.Linear(4, 4), nn.Linear(4, 1)
head(body(torch.ones(2, 4)).detach()).sum().backward()
assert body.weight.grad is None and head.weight.grad is not None
```

## Remedy
Remove what cuts the graph; where it is meant, freeze the parameters so that the reader knows.

## Safety
Changes architecture: shown, not applied.

## References
PyTorch documentation, Autograd mechanics, "Locally disabling gradient computation".
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import judge, listed, plural
from gradaudit.settings import Settings

CODE = "GA104"
NAME = "disconnected-parameter"
ORDER = 40
LIMITS = ("disconnected_warn", "disconnected_fail")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding for all such parameters together."""
    trainable = [row for row in measurements.parameters if row.trainable]
    lost_rows = [row for row in trainable if not row.connected]
    cut_off = [row.parameter for row in lost_rows]
    if not cut_off:
        return
    warn, fail = settings.limit("disconnected_warn"), settings.limit("disconnected_fail")
    lost = sum(row.size for row in lost_rows)
    measured = Estimate.exact(lost / sum(row.size for row in trainable), warn.unit)
    judged = judge(measured, warn=warn, fail=fail)
    if judged is None:
        return
    yield Finding(
        CODE,
        NAME,
        judged.severity,
        Where(module=lost_rows[0].module, parameter=cut_off[0]),
        measured,
        judged.limit,
        f"The loss does not reach {len(cut_off)} of "
        f"{plural(len(trainable), 'trainable parameter tensor')} ({measured.value:.0%} of the "
        f"parameters): {listed(cut_off)}. "
        "No optimizer step will ever change them.",
    )
