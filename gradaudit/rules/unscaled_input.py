"""The inputs are far from mean 0 and standard deviation 1.

## What it measures
The root mean square of the worst feature of each floating input, and its offset |mean| / std. Where
a normalisation layer is the first to see the input, or stands directly behind the layer that is,
this is a note. Where the rehearsal trains all the same it is a warning; under an adaptive optimizer
a loss that falls is enough for that, unless the net loops over time, up to an rms of 3,000 and an
offset of 3. Made-up data is not judged.

## Why it hurts
Gradients of the first layer, and the curvature of the loss, grow with the inputs (the latter with
their square): the rate that other layers need makes the first one diverge, and saturating units are
saturated from the start.

## Example
```python
import torch
from torch import nn

x = 1e4 * torch.rand(32, 8)
model = nn.Linear(8, 1)
model(x).square().mean().backward()
assert model.weight.grad.norm() > 1e6
```

## Remedy
Subtract the mean, divide by the standard deviation, before anything else.

## Safety
Recipe only. The same shift and scale must be applied wherever the model is used.

## References
LeCun et al. 1998, Efficient BackProp, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._judge import all_the_same, softened
from gradaudit.rules._scale import UNDER_ADAPTIVE, lived_with, unscaled
from gradaudit.settings import Settings

CODE = "GA501"
NAME = "unscaled-input"
ORDER = 20
LIMITS = (
    "input_scale_warn",
    "input_scale_fail",
    "input_scale_adaptive",
    "input_offset_adaptive",
    "offset_warn",
)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per input tensor."""
    if measurements.sample.source not in ("given", "carried"):
        return
    for found in unscaled(measurements, settings, "input"):
        severity = softened(found.judged.severity, measurements)
        closing = " The first layer's gradients grow or shrink with it."
        closing += all_the_same(measurements)
        if severity == "fail" and lived_with(found, measurements, settings):
            severity, closing = "warn", closing + UNDER_ADAPTIVE
        if found.row.normalized_by_model:
            severity, closing = "note", " The model's first layers normalise it."
        yield Finding(
            CODE, NAME, severity, Where(), found.measured, found.judged.limit, found.why + closing
        )
