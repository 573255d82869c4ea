"""A batch is so small that its gradient is nearly all noise.

## What it measures
The gradient noise scale, the batch size at which noise and signal are of one length, against the
size of the batches it was measured on. It is a finding where the low end of its interval is above
the limit. Always a note: small batches train too, at a lower rate and in more steps.

## Why it hurts
A batch of a twentieth of the noise scale points the right way with a twentieth of its squared
length. The rate has to be that much lower, and the steps are that many more.

## Example
```python
import torch

signal, noise = torch.ones(100), 10 * torch.randn(8, 100)
batch = (signal + noise).mean(0)
assert torch.cosine_similarity(batch, signal, dim=0) < 0.6  # of eight samples, noise scale 100
```

## Remedy
Larger batches, or the gradients of several batches accumulated before a step. Up to the noise
scale, k times the batch takes nearly k times fewer steps.

## Safety
Recipe only.

## References
McCandlish et al. 2018, arXiv 1812.06162.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import made_up, number, standing
from gradaudit.settings import Settings

CODE = "GA606"
NAME = "noisy-gradient"
ORDER = 110
LIMITS = ("noise_batches",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, a note."""
    scale, size = measurements.noise_scale, measurements.sample.batch_size
    if scale is None or not size or made_up(measurements):
        return
    limit = settings.limit("noise_batches")
    ends = [None if end is None else end / size for end in (scale.low, scale.high)]
    measured = Estimate(scale.value / size, ends[0], ends[1], limit.unit)
    if standing(measured, limit) != "past":
        return
    yield Finding(
        CODE,
        NAME,
        "note",
        Where(),
        measured,
        limit,
        f"The gradient of {size} samples is {1 / (1 + measured.value):.1%} signal: the noise scale "
        f"is {number(scale.value)} samples. Larger or accumulated batches would take nearly "
        "proportionally fewer steps.",
    )
