"""The regression targets are far from mean 0 and standard deviation 1.

## What it measures
The root mean square of the worst target column, and its offset |mean| / std. Only for losses that
compare numbers; made-up targets are not judged.

## Why it hurts
The loss and its gradients start as large as the targets (squared, for a squared error), and the
last bias has to travel the whole way first: the steps are too large for every other weight.

## Example
```python
import torch
from torch import nn

x, y = torch.randn(32, 8), 5000 + 100 * torch.randn(32, 1)
loss = nn.functional.mse_loss(nn.Linear(8, 1)(x), y)
assert loss > 1e7
```

## Remedy
Train on (y - shift) / scale and turn predictions back.

## Safety
Recipe only. Predictions must be scaled back wherever the model is used.

## References
LeCun et al. 1998, Efficient BackProp; Bishop 1995, section 8.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._judge import all_the_same, made_up, softened
from gradaudit.rules._scale import unscaled
from gradaudit.settings import Settings

CODE = "GA502"
NAME = "unscaled-target"
ORDER = 25
LIMITS = ("target_scale_warn", "target_scale_fail", "offset_warn")

# Their targets are classes or probabilities.
_CLASSIFICATION = ("cross_entropy", "nll", "bce", "bce_with_logits")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding per target tensor."""
    loss = measurements.loss
    if made_up(measurements) or (loss is not None and loss.kind in _CLASSIFICATION):
        return
    for found in unscaled(measurements, settings, "target"):
        severity = softened(found.judged.severity, measurements)
        # A custom loss may well take logarithms, as a count model does.
        if loss is not None and loss.kind.startswith("custom") and severity == "fail":
            severity = "warn"
        closing = " The last layer has to travel there before anything else is learned."
        closing += all_the_same(measurements)
        yield Finding(
            CODE, NAME, severity, Where(), found.measured, found.judged.limit, found.why + closing
        )
