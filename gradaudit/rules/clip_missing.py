"""Gradients spike or explode through time, and the recipe does not clip them.

## What it measures
The largest over the median gradient norm where their distribution is heavy-tailed, or growth
through time past its limit, in a recipe without `clip_norm`. Silent where no recipe was given.
Vanishing gradients never call for clipping.

## Why it hurts
One batch in a hundred takes a step a hundred times too long and throws away what the others
learned.

## Example
```python
import torch

norms = torch.distributions.StudentT(1.5).sample((1000,)).abs()
assert norms.max() / norms.median() > 10  # a few batches rule the update
```

## Remedy
`torch.nn.utils.clip_grad_norm_` at the measured threshold, after `backward()` (and after
`unscale_()`), before `step()`.

## Safety
Recipe only.

## References
Pascanu et al. 2013, arXiv 1211.5063; Zhang et al. 2020, arXiv 1905.11881.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._judge import number, power
from gradaudit.rules._through_time import judged_rows
from gradaudit.settings import Settings

CODE = "GA611"
NAME = "clip-missing"
ORDER = 100
LIMITS = ("tail_ratio", "time_growth_max")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding: the explosion through time, else the tail."""
    recipe = measurements.recipe
    if recipe.clip_norm is not None or (recipe.lr is None and recipe.optimizer is None):
        return
    for row, measured, limit, found in judged_rows(measurements, settings, above=True):
        if found == "past":
            yield Finding(
                CODE,
                NAME,
                "warn",
                Where(module=row.module),
                measured,
                limit,
                f"The gradient grows by {power(measured.value / 2)} through the {row.steps} steps "
                f"of `{row.module}`, and the recipe does not clip it.",
            )
            return
    tail = heavy_tail(measurements, settings)
    norms = measurements.gradient_norm
    if tail is not None and norms is not None:
        yield Finding(
            CODE,
            NAME,
            "warn",
            Where(),
            tail,
            settings.limit("tail_ratio"),
            f"Among {norms.batches} batches the largest gradient norm is {number(norms.max)}, "
            f"{number(tail.value)} times the median, and the recipe does not clip it.",
        )


def heavy_tail(measurements: Measurements, settings: Settings) -> Estimate | None:
    """Largest over median gradient norm, where the distribution is heavy-tailed."""
    norms, limit = measurements.gradient_norm, settings.limit("tail_ratio")
    if norms is None or norms.tail != "heavy" or norms.median <= 0:
        return None
    ratio = norms.max / norms.median
    return Estimate.exact(ratio, limit.unit) if ratio > limit.value else None
