"""Gradients die out on their way back through the layers.

## What it measures
The squared gain of the end-to-end Jacobian from the first hidden tensor of the trunk to the output
(`trunk.total_growth_log10`), and the scale-invariant GSC (`trunk.gsc`). Either below its limit is a
finding; it fails only where the near end of the 95% interval is below, and where the rehearsal does
not train all the same. A rehearsal whose loss falls, if not yet below a constant guess, is enough
to make it a warning where GSC alone is past, and under an adaptive optimizer down to a gain of
1e-11: Adam scales such gradients up. A last layer of zeros passes nothing back either, but its own
weights hear the loss and the first step opens it: there the stages before it are judged.

## Why it hurts
The first layers hear nothing of the loss and stay random; what they destroyed, the last layers
cannot bring back. The loss settles at that of a constant prediction.

## Example
```python
from torch import nn

# PyTorch's default weights have variance 1 / (3 fan_in); ReLU needs 2 / fan_in.
model = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(64, 64, bias=False), nn.ReLU())])
```

## Remedy
Draw the weights at the variance that the activation needs, or let a skip connection carry the
gradient. Clipping cannot mend it: there is nothing to clip.

## Safety
Changes start values. On learned weights the finding is a warning only, and nothing is reset.

## References
Hochreiter 1991; Glorot and Bengio 2010; He et al. 2015, arXiv 1502.01852; Philipp et al. 2017,
arXiv 1712.05577.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements
from gradaudit.rules._growth_findings import growth_findings
from gradaudit.settings import Settings

CODE = "GA102"
NAME = "vanishing-jacobian"
ORDER = 55
LIMITS = ("growth_min", "growth_min_adaptive", "gsc_min")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, on the worst stage."""
    return growth_findings(CODE, NAME, measurements, settings, above=False)
