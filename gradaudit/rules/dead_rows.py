"""Output units of a trained weight whose own weights are all zero, or as good as zero.

## What it measures
The share of output units of a dense, convolutional or recurrent weight whose root mean square is
below 2^-24 of the whole weight's: less than float32's rounding beside the others. Fresh weights are
not judged, for zero rows can be a sound start.

## Why it hurts
Such a unit passes nothing on but its bias. Weight decay and a dead activation bring it about, and
it seldom comes back, so the layer is narrower than it looks.

## Example
```python
import torch
from torch import nn

layer = nn.Linear(64, 64)
with torch.no_grad():
    layer.weight[:40] = 0.0  # as decay leaves units that get no gradient
assert int((layer.weight.abs().amax(1) == 0).sum()) == 40
```

## Remedy
Train with less weight decay or a leaky activation, or take the units out: they do nothing.

## Safety
Changes architecture: shown, not applied.

## References
IEEE 754-2019 (rounding); Mehta et al. 2019, arXiv 1811.12495 (sparsity by decay).
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import number
from gradaudit.settings import Settings

CODE = "GA303"
NAME = "dead-rows"
ORDER = 105
LIMITS = ("dead_rows_warn",)

_KINDS = ("dense", "convolution", "recurrent")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per weight; a note up to the limit. A weight of zeros alone is GA302's."""
    if measurements.state.state != "trained":
        return
    limit = settings.limit("dead_rows_warn")
    for row in measurements.weights:
        dead = row.dead_outputs or 0
        if row.kind not in _KINDS or not 0 < dead < row.outputs:
            continue
        share = dead / row.outputs
        yield Finding(
            CODE,
            NAME,
            "warn" if share > limit.value else "note",
            Where(module=row.module, parameter=row.parameter),
            Estimate.exact(share, limit.unit),
            limit,
            f"{dead} of the {row.outputs} output units of `{row.parameter}` have weights that are "
            f"zero, or vanish beside its rms of {number(row.rms)}. They pass on their bias alone.",
        )
