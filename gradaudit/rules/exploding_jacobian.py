"""Gradients grow on their way back through the layers.

## What it measures
The squared gain of the end-to-end Jacobian from the first hidden tensor of the trunk to the output
(`trunk.total_growth_log10`), and the scale-invariant GSC (`trunk.gsc`). Either past its limit is a
finding; it fails only where the near end of the 95% interval is past, and where the rehearsal does
not train all the same.

## Why it hurts
The first layers get gradients many powers of ten larger than the last ones. One step throws their
weights off; a few steps later the loss is NaN.

## Example
```python
import torch
from torch import nn

layers = []
for _ in range(20):
    linear = nn.Linear(64, 64)
    nn.init.normal_(linear.weight)  # variance 1: 64 times what tanh can carry
    layers += [linear, nn.Tanh()]
model = nn.Sequential(*layers)
```

## Remedy
Draw the weights at the variance that the activation needs; in a residual net without
normalisation, scale the branches down. Clipping bounds the step but not the imbalance.

## Safety
Changes start values. On learned weights the finding is a warning only, and nothing is reset.

## References
Glorot and Bengio 2010; He et al. 2015, arXiv 1502.01852; Philipp et al. 2017, arXiv 1712.05577.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements
from gradaudit.rules._growth_findings import growth_findings
from gradaudit.settings import Settings

CODE = "GA101"
NAME = "exploding-jacobian"
ORDER = 50
LIMITS = ("growth_max", "gsc_max")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, on the worst stage."""
    return growth_findings(CODE, NAME, measurements, settings, above=True)
