"""The start weights have a variance that the activations cannot carry, or are all alike.

## What it measures
Variance times fan-in of each weight against what the activation behind it needs (ReLU 2, tanh and
linear 1, GELU 2.35, SiLU 2.81, ...); weights whose units are all identical; several weights that
are all zero. A variance that is off is a finding only together with growth past its limit, as its
cause; on learned weights the rule is silent.

## Why it hurts
A factor per layer is a power over the depth: 1/6 per layer, PyTorch's default under ReLU, is 10^-16
after 20 layers. Identical units get identical gradients and stay identical.

## Example
```python
from torch import nn

layer = nn.Linear(64, 64)
nn.init.constant_(layer.weight, 0.1)  # 64 units that will always be one
assert layer.weight.unique().numel() == 1
```

## Remedy
Draw each weight with standard deviation sqrt(needed / fan_in).

## Safety
Changes start values.

## References
Glorot and Bengio 2010; He et al. 2015, arXiv 1502.01852; Poole et al. 2016, arXiv 1606.05340.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradaudit.records import (
    SEVERITIES,
    Estimate,
    Finding,
    Limit,
    Measurements,
    Severity,
    WeightRow,
    Where,
)
from gradaudit.rules._growth import growth_severity, judge_growth
from gradaudit.rules._initialization import (
    Offender,
    all_zero,
    blamed_offenders,
    offenders,
    recurrent_offenders,
    symmetric,
)
from gradaudit.rules._judge import all_the_same, listed, number, softened
from gradaudit.rules._through_time import past_in_time, time_severity
from gradaudit.settings import Settings

CODE = "GA302"
NAME = "poor-initialization"
ORDER = 70
LIMITS = ("initialization_off",)

_ALIKE = Limit(0.0, "weights that start without differences", "Goodfellow et al. 2016, section 8.4")


def check(measurements: Measurements, settings: Settings) -> Iterable[Finding]:
    """At most one finding per cause: variance, recurrent variance, symmetry, zeros."""
    if measurements.state.state == "trained":
        return
    yield from _alike(measurements)
    for above in (True, False):
        yield from _variance(measurements, settings, above=above)
        yield from _recurrent(measurements, settings, above=above)


def _variance(measurements: Measurements, settings: Settings, *, above: bool) -> Iterator[Finding]:
    growth = judge_growth(measurements, settings, above=above)
    if growth is None or not growth.past:
        blamed = blamed_offenders(measurements, above=above)
        if blamed:
            yield _finding(blamed, "fail", settings, above=above)
        return
    found = offenders(measurements, settings.limit("initialization_off").value, above=above)
    if found:
        yield _finding(
            found, growth_severity(growth, measurements, settings), settings, above=above
        )


def _recurrent(measurements: Measurements, settings: Settings, *, above: bool) -> Iterator[Finding]:
    rows = past_in_time(measurements, settings, above=above)
    judged = [time_severity(row, "past", measurements, settings, above=above) for row in rows]
    modules = tuple(row.module for row in rows)
    tolerance = settings.limit("initialization_off").value
    found = recurrent_offenders(measurements, modules, tolerance, above=above)
    if found:
        severity = min(judged, key=SEVERITIES.index)
        yield _finding(found, severity, settings, above=above)


def _finding(
    found: tuple[Offender, ...], severity: Severity, settings: Settings, *, above: bool
) -> Finding:
    worst = found[0]
    tolerance = settings.limit("initialization_off")
    limit = tolerance if above else Limit(1 / tolerance.value, tolerance.unit, tolerance.source)
    activation = worst.row.activation or "a linear layer"
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Finding(
        CODE,
        NAME,
        severity,
        Where(module=worst.row.module, parameter=worst.row.parameter),
        Estimate.exact(worst.ratio, limit.unit),
        limit,
        f"The start weights `{worst.row.parameter}`{others} have {number(worst.ratio)}x the "
        f"variance that {activation} needs. Variance x fan_in is {number(worst.have)} there, not "
        f"{number(worst.need)}: the difference counts once per layer.",
    )


def _alike(measurements: Measurements) -> Iterator[Finding]:
    identical, zero = symmetric(measurements), all_zero(measurements)
    if identical:
        yield _alike_finding(
            identical,
            softened("fail", measurements),
            f"All units of {_parameters(identical)} start with the same weights. They get the same "
            "gradient at every step and stay one unit for ever." + all_the_same(measurements),
        )
    if len(zero) > 1:
        # Without stages it is not known whether they close residual branches, where zero is sound.
        worst: Severity = "fail" if measurements.stages else "warn"
        yield _alike_finding(
            zero,
            softened(worst, measurements),
            f"The weights {_parameters(zero)} are all zero. Each blocks the gradient of the other, "
            "so none of them can move." + all_the_same(measurements),
        )


def _alike_finding(rows: tuple[WeightRow, ...], severity: Severity, why: str) -> Finding:
    where = Where(module=rows[0].module, parameter=rows[0].parameter)
    measured = Estimate.exact(len(rows), _ALIKE.unit)
    return Finding(CODE, NAME, severity, where, measured, _ALIKE, why)


def _parameters(rows: tuple[WeightRow, ...]) -> str:
    return listed([row.parameter for row in rows])
