"""Different samples leave the deep layers as nearly the same vector.

## What it measures
Of the layers with weights, up to the last: one minus the mean cosine between the outputs of two
different samples, and the effective rank of what is left when their mean is taken away. Found where
either falls below its limit in some hidden layer and stays there to the end, while the first layer
still told the samples apart. Activations that are all positive have a cosine of 0.9 by nature, far
from the limits.

## Why it hurts
What a deep layer gets no longer depends on the sample, or only on one number about it: all samples
pull the layers behind it the same way, and only biases learn. With depth the cosine tends to 1 at
every layer (the ordered phase).

## Example
```python
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(64, 64), nn.Sigmoid())))
unit = nn.functional.normalize(net(torch.randn(2, 64)), dim=1)
assert 1 - unit[0] @ unit[1] < 1e-5
```

## Remedy
The critical initialization of the activation, smaller biases, skip connections or norms.

## Safety
Changes start values; skip connections and norms change the architecture and are only shown.

## References
Poole et al. 2016, arXiv 1606.05340; Schoenholz et al. 2017, arXiv 1611.01232; Roy and Vetterli
2007; tests/benchmarks/collapse.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Estimate, Finding, Measurements, ModuleRow, Where
from gradaudit.rules._judge import (
    all_the_same,
    contradicted,
    is_adaptive,
    learned,
    lower,
    made_up,
    number,
    optimizer_in_use,
)
from gradaudit.settings import Settings

CODE = "GA404"
NAME = "collapsed-representation"
ORDER = 77
LIMITS = ("sample_spread_min", "sample_spread_min_adaptive", "effective_rank_min")

_LEAST_SPAN = 4  # below so many samples or units an output lies on a line by nature
_RICH = 3.0  # effective rank of a first layer that has something to lose


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding at most: where it begins."""
    optimizer = optimizer_in_use(measurements)
    plain = bool(optimizer) and not is_adaptive(optimizer)
    alike = settings.limit("sample_spread_min" if plain else "sample_spread_min_adaptive")
    rank = settings.limit("effective_rank_min")
    rows = [row for row in measurements.modules if _tells(row)]
    if not rows:
        return
    found = _begins(rows, [_spread(row) < alike.value for row in rows])
    if found is not None:
        measured, limit = Estimate.exact(_spread(found), alike.unit), alike
        what = (
            f"the outputs of two samples differ by {number(_spread(found))} in cosine from "
            f"`{found.module}` on"
        )
    elif _rank(rows[0]) >= _RICH:
        found = _begins(rows, [_rank(row) < rank.value for row in rows])
        if found is None or _behind_bottleneck(found, measurements):
            return
        measured, limit = Estimate.exact(_rank(found), rank.unit), rank
        what = (
            f"from `{found.module}` on the samples lie along a line (effective rank "
            f"{number(_rank(found))} of {found.rank_limit}, {number(_rank(rows[0]))} in the first)"
        )
    else:
        return
    softer = contradicted(measurements) or learned(measurements) or made_up(measurements)
    yield Finding(
        CODE,
        NAME,
        lower("warn") if softer else "warn",
        Where(module=found.module, call=found.call),
        measured,
        limit,
        f"{what[0].upper()}{what[1:]}: what the layers behind it get hardly depends on the sample."
        + all_the_same(measurements),
    )


def _behind_bottleneck(row: ModuleRow, measurements: Measurements) -> bool:
    """Whether a layer of a few units before it leaves no more than a line on purpose."""
    before = measurements.modules[: measurements.modules.index(row)]
    return any(r.rank_limit is not None and r.rank_limit < _LEAST_SPAN for r in before)


def _tells(row: ModuleRow) -> bool:
    return row.sample_correlation is not None and (row.rank_limit or 0) >= _LEAST_SPAN


def _spread(row: ModuleRow) -> float:
    """One minus the mean cosine."""
    return max(0.0, 1.0 - (row.sample_correlation or 0.0))


def _rank(row: ModuleRow) -> float:
    return row.effective_rank or 0.0


def _begins(rows: Sequence[ModuleRow], collapsed: Sequence[bool]) -> ModuleRow | None:
    """The first of the rows that are collapsed to the end.

    ``None`` where the first row of all is among them, or the last layer alone, which may start from
    a bias.
    """
    start = len(rows)
    while start and collapsed[start - 1]:
        start -= 1
    tail = rows[start:]
    layers = [r for r in tail if not any(_inside(o.module, r.module) for o in rows)]
    return tail[0] if start and len(layers) > 1 else None


def _inside(inner: str, outer: str) -> bool:
    return inner != outer and (not outer or inner.startswith(f"{outer}."))
