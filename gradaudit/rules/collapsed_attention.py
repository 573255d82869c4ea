"""Every query of an attention layer looks at one key only, before anything is learned.

## What it measures
The entropy of the attention weights as a share of `ln n`, where `n` counts the keys that the mask
allows, over the queries and heads of one call on the sample as given: 1 looks everywhere alike, 0
at one key. Its interval is Wilson's over queries and heads. Silent on learned weights, which look
at one key for good reasons.

## Why it hurts
The softmax is saturated: hardly any gradient reaches queries and keys, so that the arbitrary choice
of the start cannot be taken back. Entropy that collapses goes with loss spikes and divergence.

## Example
```python
import torch

logits = 30 * torch.randn(1000, 64)
weights = logits.softmax(-1)
entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1) / torch.tensor(64.0).log()
assert entropy.mean() < 0.1
```

## Remedy
Draw the query and key weights smaller, divide the products by the root of the head's width, or
normalise queries and keys (QK norm).

## Safety
Changes start values; a norm on queries and keys changes the architecture and is only shown.

## References
Zhai et al. 2023, arXiv 2303.06296; Henry et al. 2020, arXiv 2010.04245;
tests/benchmarks/collapse.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import AttentionRow, Estimate, Finding, Limit, Measurements, Where
from gradaudit.rules._judge import (
    Standing,
    all_the_same,
    contradicted,
    lower,
    made_up,
    number,
    plural,
    standing,
    wilson,
)
from gradaudit.settings import Settings

CODE = "GA403"
NAME = "collapsed-attention"
ORDER = 76
LIMITS = ("attention_entropy_min",)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding at most, on the call that looks at least widely."""
    limit = settings.limit("attention_entropy_min")
    collapsed = collapsed_calls(measurements, settings)
    perhaps = _calls(measurements, limit, "straddles")
    calls = collapsed or [pair for pair in perhaps if pair[1].value < limit.value]
    if not calls:
        return
    row, measured = min(calls, key=lambda pair: pair[1].value)
    softer = not collapsed or contradicted(measurements) or made_up(measurements)
    place = f"`{row.module}`" if row.module else "the model itself"
    others = len({r.module for r, _ in calls}) - 1
    logit = f" (logits up to {number(row.largest_logit)})" if row.largest_logit else ""
    yield Finding(
        CODE,
        NAME,
        lower("warn") if softer else "warn",
        Where(module=row.module, call=row.call),
        measured,
        limit,
        f"The queries of {place} look at one key each{logit}: the entropy of their weights is "
        f"{measured.value:.0%} of what their {plural(row.keys, 'key')} allow"
        + (f", and {plural(others, 'other layer')} the same" if others else "")
        + ". The softmax passes hardly any gradient to queries and keys."
        + all_the_same(measurements),
    )


def collapsed_calls(
    measurements: Measurements, settings: Settings
) -> list[tuple[AttentionRow, Estimate]]:
    """The calls below the limit as a whole, with what was judged; none on learned weights."""
    return _calls(measurements, settings.limit("attention_entropy_min"), "past")


def _calls(
    measurements: Measurements, limit: Limit, wanted: Standing
) -> list[tuple[AttentionRow, Estimate]]:
    if measurements.state.state == "trained":
        return []
    return [
        (row, measured)
        for row in measurements.attention
        if (measured := _judged(row, measurements)) is not None
        and standing(measured, limit, above=False) == wanted
    ]


def _judged(row: AttentionRow, measurements: Measurements) -> Estimate | None:
    """The mean share as an estimate over queries: of all numbers in 0..1 shares vary the most."""
    if row.entropy is None:
        return None
    queries = row.heads * row.queries * (measurements.sample.batch_size or 1)
    low, high = wilson(row.entropy.value, queries)
    return Estimate(
        row.entropy.value,
        min(low, row.entropy.value),
        max(high, row.entropy.value),
        row.entropy.unit,
    )
