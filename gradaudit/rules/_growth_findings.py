"""The finding about the Jacobian's growth, in words: where it starts, how fast, what follows."""

from __future__ import annotations

from collections.abc import Iterator

from gradaudit.records import Finding, Measurements, Where
from gradaudit.rules._growth import (
    Growth,
    Span,
    blocks,
    find_span,
    growth_severity,
    judge_growth,
    judged_stages,
)
from gradaudit.rules._judge import all_the_same, number, plural, power
from gradaudit.settings import Settings


def growth_findings(
    code: str, name: str, measurements: Measurements, settings: Settings, *, above: bool
) -> Iterator[Finding]:
    """The one finding of GA101 or GA102, if there is one."""
    growth = judge_growth(measurements, settings, above=above)
    if growth is None:
        return
    span = find_span(judged_stages(measurements), above=above)
    severity = growth_severity(growth, measurements, settings)
    sentences = [_headline(growth, span, measurements, above=above)]
    if growth.past:
        sentences.append(_consequence(growth, measurements, above=above))
    else:
        sentences.append("The interval reaches both sides of the limit: more probes would tell.")
    closing = all_the_same(measurements) if severity == "warn" else ""
    yield Finding(
        code,
        name,
        severity,
        _where(span, measurements),
        growth.measured,
        growth.limit,
        " ".join(sentences) + closing,
    )


def _where(span: Span | None, measurements: Measurements) -> Where:
    if span is not None:
        return Where(module=span.worst.name, stage=span.worst.index)
    worst = measurements.trunk.worst_stage
    names = {stage.index: stage.name for stage in measurements.stages}
    return Where(module=names.get(worst, "") if worst is not None else "", stage=worst)


def _headline(growth: Growth, span: Span | None, measurements: Measurements, *, above: bool) -> str:
    """Where it starts and how fast, in norms (the roots of the squared gains)."""
    verb = "grow" if above else "shrink"
    if not growth.plain:
        return (
            f"Measured against the activations, gradients {verb} to {number(growth.measured.value)}"
            f" times their share along the trunk (GSC; limit {number(growth.limit.value)})."
        )
    blocked = next((s for s in judged_stages(measurements) if blocks(s)), None)
    if blocked is not None and not above:
        return f"`{blocked.name}` passes no gradient back at all."
    total = growth.measured.value / 2
    if span is None:
        return (
            f"Gradient norms {verb} by {power(total)} on their way back through "
            f"{plural(measurements.trunk.stages, 'stage')}.{_squared(2 * total)}"
        )
    count = len(span.stages)
    # In a span of one, or one dominated by a single stage, a rate "per stage" would mislead.
    if count == 1 or abs(span.worst_log10) > 0.7 * abs(span.log10):
        return (
            f"Gradient norms {verb} by {power(span.worst_log10 / 2)} in `{span.worst.name}` alone, "
            f"and by {power(total)} from the output to the first layer.{_squared(2 * total)}"
        )
    rate = 10.0 ** (span.log10 / 2 / count)
    return (
        f"Gradient norms {verb} {number(rate)}x per stage on their way back from "
        f"`{span.stages[-1].name}` to `{span.stages[0].name}`; over {count} stages that is "
        f"{power(span.log10 / 2)}, most of all in `{span.worst.name}`.{_squared(span.log10)}"
    )


def _squared(log10: float) -> str:
    """The same as a gain, which is what is measured and held against the limit."""
    return f" As a gain, which counts squares, that is {power(log10)}."


def _consequence(growth: Growth, measurements: Measurements, *, above: bool) -> str:
    if not growth.plain:
        return (
            "The net bends its inputs so hard that a step which helps one sample undoes another."
            if above
            else "What the first layers do hardly reaches the output."
        )
    if growth.measured.value == 0:
        return "All layers before it will not move."
    log10 = growth.measured.value / 2
    if above:
        if log10 > 8:
            return "Expect NaN within a few steps."
        return "A rate that suits the last layers throws the first ones off."
    if log10 < -8:
        return "The first layers receive less than float32 can add to a weight: they will not move."
    return "The first layers learn that much slower than the last ones."
