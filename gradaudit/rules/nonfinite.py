"""An operation makes a NaN or an infinity out of finite numbers.

## What it measures
The first operation, in order of execution, whose result holds a NaN or an infinity while all that
went in was finite: in the weights, forward, in the loss, backward, or at a step of the rehearsal
under the recipe as given. Only this producer is named, not those that passed it on, with the line
of your code that called it where there is one. A buffer or constant that is not finite is named
with the operation that first used it, if what it made of it reached the loss. A weight that an
optimizer's step made non-finite is named with that step.

## Why it hurts
A NaN spreads to everything it meets. After one such step every weight it reached is lost.

## Example
```python
import torch

x = torch.zeros(3, requires_grad=True)
torch.where(x > 0, torch.sqrt(x), 0.0).sum().backward()  # the untaken branch: 0 * inf
assert x.grad.isnan().all()
```

## Remedy
Mend the operation that is named: keep its argument inside its domain (`clamp` before `log`, `sqrt`
or a division), or load weights that are finite.

## Safety
Changes architecture: shown, not applied.

## References
IEEE 754-2019, section 6; Goldberg 1991.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradaudit.records import Estimate, Finding, Limit, Measurements, NonFinite, Where
from gradaudit.settings import Settings

CODE = "GA001"
NAME = "non-finite"
ORDER = 10
LIMITS = ()

_LIMIT = Limit(0.0, "operations that made a non-finite number", "IEEE 754: NaN spreads")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """One finding at most: the first producer."""
    first = first_producer(measurements)
    if first is None:
        return
    yield Finding(
        CODE,
        NAME,
        "fail",
        Where(
            module=first.module,
            parameter=first.parameter if first.phase in ("weights", "constant") else "",
            call=first.call,
            file=first.file,
            line=first.line,
        ),
        Estimate.exact(max(1, len(measurements.nonfinite)), _LIMIT.unit),
        _LIMIT,
        _why(first),
    )


def first_producer(measurements: Measurements) -> NonFinite | None:
    """Where it began: at the start, else in the rehearsal.

    A rehearsal that a lower rate rescues is the rate's fault (GA601), and a rate that is ours is
    never judged.
    """
    if measurements.nonfinite:
        return measurements.nonfinite[0]
    rehearsal = measurements.rehearsal
    if rehearsal is None or rehearsal.prescribed or rehearsal.rescued_by_rate is not None:
        return None
    return rehearsal.first_nonfinite


def spoilt_by_step(first: NonFinite) -> bool:
    """Whether it is a weight that was finite until the optimizer stepped."""
    return first.phase == "weights" and first.step is not None


def _why(first: NonFinite) -> str:
    place = f"`{first.module}`" if first.module else "the model itself"
    if first.phase == "loss":
        place = "the loss"
    if first.file:
        place += f", called at {first.file}:{first.line},"
    if first.phase == "constant":
        held = f"The buffer `{first.parameter}`" if first.parameter else "A constant of the model"
        return (
            f"{held} holds a NaN or an infinity, and `{first.op}` in {place} is the first to take "
            "it. From there it reaches the loss."
        )
    if spoilt_by_step(first):
        return (
            f"The optimizer's step {first.step} of the rehearsal made the weight "
            f"`{first.parameter or first.module}` non-finite, from a finite loss and gradient. "
            "From there on nothing is learned."
        )
    if first.phase == "weights":
        return (
            f"The weight `{first.parameter or first.module}` holds a NaN or an infinity before "
            "anything has run. Every output it reaches is NaN."
        )
    if first.step is not None:
        return (
            f"At step {first.step} of the rehearsal, `{first.op}` in {place} made the first NaN or "
            f"infinity ({first.phase}). From there on nothing is learned."
        )
    again = f", call {first.call}," if first.call else ""
    reached = f", first of all to `{first.parameter}`" if first.parameter else ""
    return (
        f"`{first.op}` in {place}{again} makes a NaN or infinity out of finite numbers "
        f"({first.phase}). The first step would spread it to every weight it reaches{reached}."
    )
