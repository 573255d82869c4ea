"""A weight is far larger or smaller than those of the same part in the other layers.

## What it measures
Root mean square times the square root of the fan-in over the median of the weights with the same
part and shape: the same name but for the layer's number, in four layers at least. Smaller ones are
judged on trained weights only, for a start may close a layer on purpose.

## Why it hurts
Layers of one part at one learning rate learn at the same pace only if they are of a size: a layer
ten times as large moves a tenth as far, relative to itself. One that stands out was initialized
otherwise, trained at another rate, or not trained at all.

## Example
```python
import torch
from torch import nn

layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))
with torch.no_grad():
    layers[3].weight *= 30
sizes = torch.stack([layer.weight.detach().std() for layer in layers])
assert sizes.max() / sizes.median() > 10
```

## Remedy
Draw the layer's weights as those of its peers, or give it a learning rate of its own.

## Safety
Changes start values.

## References
Glorot and Bengio 2010; You et al. 2017, arXiv 1708.03888 (size of weights and of steps by layer).
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Limit, Measurements, WeightRow, Where
from gradaudit.rules._judge import number
from gradaudit.settings import Settings

CODE = "GA305"
NAME = "layer-imbalance"
ORDER = 107
LIMITS = ("layer_imbalance_warn",)

_KINDS = ("dense", "convolution", "recurrent")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per weight."""
    limit = settings.limit("layer_imbalance_warn")
    below = Limit(1 / limit.value, limit.unit, limit.source)
    for row in measurements.weights:
        ratio = row.peer_ratio
        if ratio is None or row.kind not in _KINDS:
            continue
        if ratio > limit.value:
            yield _finding(row, ratio, limit, f"{number(ratio)} times as large as")
        elif ratio < below.value and measurements.state.state == "trained":
            yield _finding(row, ratio, below, f"{number(1 / ratio)} times smaller than")


def _finding(row: WeightRow, ratio: float, limit: Limit, how: str) -> Finding:
    return Finding(
        CODE,
        NAME,
        "warn",
        Where(module=row.module, parameter=row.parameter),
        Estimate.exact(ratio, limit.unit),
        limit,
        f"`{row.parameter}` (rms {number(row.rms)}) is {how} the median of the {row.peers} weights "
        "of its part. At one learning rate they do not learn at one pace.",
    )
