"""Weight decay pulls harder on the weights than the loss does.

## What it measures
Decay over the loss's own pull, at the start. Where decay is part of the gradient (SGD, Adam) that
is `decay * ||w|| / ||g||` over all trainable parameters. Where it works beside the step (AdamW) the
pull of the loss is a step of at most about the rate in every entry, which leaves
`decay * rms(w)`. Silent where the recipe is too short for decay to halve the weights, where
gradients vanish (GA102: then it is they that are too weak), and in the gradient of learned weights.

## Why it hurts
The weights shrink faster than the loss can build them up. Behind several layers of small weights
the loss's pull goes towards zero faster than the decay does, so the net settles where all
predictions are the same.

## Example
```python
import torch

w = torch.ones(1, requires_grad=True)
optimizer = torch.optim.AdamW([w], lr=0.01, weight_decay=100.0)
for _ in range(100):
    optimizer.zero_grad()
    ((w - 3) ** 2).sum().backward()  # the loss wants w at 3
    optimizer.step()
assert w.item() < 0.02  # AdamW holds it at 1 / decay
```

## Remedy
The customary decay (0.01 for AdamW, 1e-4 in the gradient), less where that is still too much.

## Safety
Recipe only.

## References
Krogh and Hertz 1991, "A simple weight decay can improve generalization"; Loshchilov and Hutter
2019, arXiv 1711.05101 (AdamW); van Laarhoven 2017, arXiv 1706.05350 (equilibrium).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Measurements, Where
from gradaudit.rules._decay import halves_the_weights, is_decoupled, pull_of_decay
from gradaudit.rules._growth import judge_growth
from gradaudit.rules._judge import (
    Judged,
    judge,
    learned,
    lower,
    made_up,
    number,
    optimizer_in_use,
)
from gradaudit.rules._outlook import ill, recipe_to_blame
from gradaudit.settings import Settings

CODE = "GA607"
NAME = "weight-decay-too-strong"
ORDER = 89
LIMITS = (
    "decay_pull_warn",
    "decay_pull_fail",
    "decay_pull_decoupled_warn",
    "decay_pull_decoupled_fail",
    "decay_pull_seen",
)


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding, about the recipe."""
    pull = pull_of_decay(measurements)
    if pull is None or not math.isfinite(pull) or not halves_the_weights(measurements):
        return
    decoupled = is_decoupled(optimizer_in_use(measurements))
    growth = judge_growth(measurements, settings, above=False)
    if not decoupled and (learned(measurements) or (growth is not None and growth.past)):
        return
    kind = "_decoupled" if decoupled else ""
    warn, fail = settings.limit(f"decay_pull{kind}_warn"), settings.limit(f"decay_pull{kind}_fail")
    measured = Estimate.exact(pull, warn.unit)
    judged = judge(measured, warn=warn, fail=fail)
    seen = settings.limit("decay_pull_seen")
    if pull > seen.value and ill(measurements) and recipe_to_blame(measurements):
        judged = Judged("fail", seen)
    if judged is None:
        return
    severity, also = judged.severity, ""
    if made_up(measurements):
        severity, also = lower(severity), " (On made-up data the loss's pull is only a guess.)"
    decay = number(measurements.recipe.weight_decay or 0.0)
    why = (
        f"A weight decay of {decay} takes {number(pull)} times as much off the weights at a step "
        "as the optimizer can put on them."
        if decoupled
        else f"At the start a weight decay of {decay} pulls {number(pull)} times as hard on the "
        "weights as the loss does."
    )
    yield Finding(CODE, NAME, severity, Where(), measured, judged.limit, why + also)
