"""A single entry of a weight outweighs all its other entries together.

## What it measures
The square of the largest entry over the sum of squares of all others, for weights of 256 entries
and more.

## Why it hurts
The layer passes on one number of its input and drowns the rest. Training seldom does this; a
damaged file, a flipped bit or an overflow that was cut off does. In half precision or quantized,
the other entries are rounded away.

## Example
```python
import torch
from torch import nn

layer = nn.Linear(64, 64)
with torch.no_grad():
    layer.weight[3, 5] = 1e4  # one flipped bit of the exponent
squares = layer.weight.square()
assert squares.max() > 100 * (squares.sum() - squares.max())
```

## Remedy
Look at the entry: load an older checkpoint, or set it to the size of its neighbours.

## Safety
Changes start values.

## References
Dettmers et al. 2022, arXiv 2208.07339 (outliers of trained transformers, far below this limit).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, WeightRow, Where
from gradaudit.rules._judge import number
from gradaudit.settings import Settings

CODE = "GA304"
NAME = "lone-outlier"
ORDER = 106
LIMITS = ("lone_outlier_warn",)

_FEWEST = 256  # entries
_MOST = 1e30  # where all others are zero


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per weight."""
    limit = settings.limit("lone_outlier_warn")
    for row in measurements.weights:
        ratio = outweighs(row)
        if ratio is None or ratio <= limit.value:
            continue
        peak = (row.peak or 0.0) * row.rms
        yield Finding(
            CODE,
            NAME,
            "warn",
            Where(module=row.module, parameter=row.parameter),
            Estimate.exact(ratio, limit.unit),
            limit,
            f"One entry of `{row.parameter}`, of size {number(peak)}, is {number(ratio**0.5)} "
            "times as large as all others together (in norm). The layer passes on little else.",
        )


def outweighs(row: WeightRow) -> float | None:
    """The largest entry's square over the sum of all others'."""
    count = math.prod(row.shape)
    if row.peak is None or count < _FEWEST:
        return None
    share = row.peak**2 / count
    return min(share / (1 - share), _MOST) if share < 1 else _MOST
