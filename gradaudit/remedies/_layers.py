"""Which layers get new start values, and what: shared by the remedies that reset weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradaudit.records import Finding, Measurements, WeightRow
from gradaudit.rules import rule
from gradaudit.rules._growth import judge_growth
from gradaudit.rules._initialization import (
    activation_key,
    all_zero,
    blamed_offenders,
    needed_variance,
    offenders,
    symmetric,
)
from gradaudit.rules._terms import Places, RuleTerms
from gradaudit.settings import Settings

# The mean log-gain of a Gaussian net of width n falls by about 2.5 / n per layer; beyond this sum
# (a factor 7) the layers are drawn orthogonal, which does not scatter.
_FINITE_WIDTH = 2.0
# Their gain holds at pre-activations of variance 1 and drifts away from anywhere else, so the first
# layer, which is fed data of variance 1 and not an activation, must keep that.
_UNSTABLE = ("gelu", "silu", "swish", "mish", "hardswish")
_FOR_GROWTH = ("GA101", "GA102", "GA302")


@dataclass(frozen=True)
class Start:
    """New start values of one weight."""

    parameter: str
    scheme: str  # "He" | "Glorot" | "LeCun" | "critical" | "orthogonal"
    std: float | None  # of the normal distribution; None: orthogonal
    gain: float | None  # of the orthogonal matrix; None: normal
    recentred: bool = False  # the bias takes out the mean 1/2 of the sigmoid before
    row: WeightRow | None = None


def codes(findings: Sequence[Finding]) -> set[str]:
    """The codes among the findings."""
    return {finding.code for finding in findings}


def may_reset(measurements: Measurements) -> bool:
    """Whether start values may change: not on learned weights."""
    return measurements.state.state != "trained"


def is_parameter(name: str, measurements: Measurements) -> bool:
    """Whether the weight can be set by that name (a reparametrized one cannot)."""
    known = {row.parameter for row in measurements.parameters}
    return not known or name in known


def drawn_within(findings: Sequence[Finding], parameters: Sequence[str]) -> tuple[str, ...]:
    """GA301, where one of these weights exceeds its norm: drawn anew, it does not."""
    past = {f.where.parameter for f in findings if f.code == "GA301"}
    return ("GA301",) if past & set(parameters) else ()


def resets(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> tuple[Start, ...]:
    """New start values of every weight that is off, in the order of the model."""
    if not may_reset(measurements) or not codes(findings) & set(_FOR_GROWTH):
        return ()
    tolerance = settings.limit("initialization_off").value
    off: dict[str, WeightRow] = {}
    for above in (True, False):
        growth = judge_growth(measurements, settings, above=above)
        if growth is not None and growth.past:
            found = offenders(measurements, tolerance, above=above)
            off.update({each.row.parameter: each.row for each in found})
        elif "GA302" in codes(findings):
            found = blamed_offenders(measurements, above=above)
            off.update({each.row.parameter: each.row for each in found})
    if "GA302" in codes(findings):
        zero = all_zero(measurements)
        alike = (*symmetric(measurements), *(zero if len(zero) > 1 else ()))
        off.update({row.parameter: row for row in alike})
    terms = RuleTerms(rule("GA302"), settings, Places(measurements, settings.layers))
    rows = [
        row
        for row in measurements.weights
        if row.parameter in off
        and is_parameter(row.parameter, measurements)
        and not terms.spared(row.parameter, row.module)
    ]
    narrow = 2.5 * sum(1.0 / max(1, row.fan_in) for row in rows) > _FINITE_WIDTH
    return tuple(replace(start_of(row, measurements, narrow=narrow), row=row) for row in rows)


def start_of(row: WeightRow, measurements: Measurements, *, narrow: bool = False) -> Start:
    """The start values that the activation behind ``row`` needs."""
    key = activation_key(row.activation)
    need = needed_variance(row.activation) or 1.0
    if narrow and row.kind == "dense" and key != "sigmoid":
        # A tall matrix with orthonormal columns keeps the norm, not the mean square per unit.
        outputs = row.shape[0]
        gain = math.sqrt(need * max(1.0, outputs / row.fan_in))
        return Start(row.parameter, "orthogonal", None, gain)
    if key in ("linear", "identity", "tanh", "softsign"):
        std = math.sqrt(2.0 * need / (row.fan_in + fan_out(row)))
        return Start(row.parameter, "Glorot", std, None)
    scheme = {"selu": "LeCun", "sigmoid": "critical"}.get(key, "He")
    if key in _UNSTABLE and _first(row, measurements):
        scheme, need = "LeCun", 1.0
    std = math.sqrt(need / row.fan_in)
    return Start(row.parameter, scheme, std, None, recentred=_after_sigmoid(row, measurements))


def fan_out(row: WeightRow) -> int:
    """Outputs that one input feeds: ``out * kernel size`` (groups are not told apart)."""
    if len(row.shape) == 2:
        return max(1, math.prod(row.shape) // max(1, row.fan_in))
    return row.shape[0] * math.prod(row.shape[2:])


def _first(row: WeightRow, measurements: Measurements) -> bool:
    layers = (each for each in measurements.weights if each.kind in ("dense", "convolution"))
    return row.parameter == next((each.parameter for each in layers), "")


def _after_sigmoid(row: WeightRow, measurements: Measurements) -> bool:
    names = [each.parameter for each in measurements.weights]
    place = names.index(row.parameter)
    return place > 0 and activation_key(measurements.weights[place - 1].activation) == "sigmoid"
