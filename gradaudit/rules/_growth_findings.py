"""The finding about the Jacobian's growth, in words: where it starts, how fast, what follows."""

from __future__ import annotations

from collections.abc import Iterator

from gradaudit.records import Finding, Measurements, StageRow, Where
from gradaudit.rules._growth import (
    Growth,
    Span,
    blocks,
    find_span,
    growth_severity,
    judge_growth,
    judged_stages,
)
from gradaudit.rules._judge import all_the_same, number, power
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
    closing = all_the_same(measurements).strip() if severity == "warn" else ""
    if closing:  # what growth does to others it does not do here
        sentences.append(closing)
    elif growth.past:
        sentences.append(_consequence(growth, measurements, above=above))
    else:
        sentences.append("The interval reaches both sides of the limit: more probes would tell.")
    sentences += _details(growth, span, measurements, above=above)
    yield Finding(
        code,
        name,
        severity,
        _where(span, measurements),
        growth.measured,
        growth.limit,
        " ".join(sentences),
    )


def _where(span: Span | None, measurements: Measurements) -> Where:
    if span is not None:
        return Where(module=span.worst.name, stage=span.worst.index)
    worst = measurements.trunk.worst_stage
    names = {stage.index: stage.name for stage in measurements.stages}
    return Where(module=names.get(worst, "") if worst is not None else "", stage=worst)


def _headline(growth: Growth, span: Span | None, measurements: Measurements, *, above: bool) -> str:
    """How fast, from where on and over how many layers, in norms (the roots of the gains)."""
    verb = "grow" if above else "shrink"
    if not growth.plain:
        return (
            f"Relative to the activations, gradients {verb} to {number(growth.measured.value)}x "
            f"their size along the net (limit {number(growth.limit.value)})."
        )
    blocked = _blocked(measurements, above=above)
    if blocked is not None:
        return f"`{blocked.name}` passes no gradient back at all."
    total = growth.measured.value / 2
    if span is None:
        count = measurements.trunk.stages
        return f"Gradients {verb} {_fold(total)} from the last layer to the first, {count} in all."
    count, layer = len(span.stages), _noun(span)
    if not _steady(span):
        return (
            f"Gradients {verb} {_fold(span.worst_log10 / 2)} in `{span.worst.name}` alone, and "
            f"{_fold(total)} from the last {layer} to the first."
        )
    rate = number(10.0 ** (abs(span.log10) / 2 / count))
    left = power(span.log10 / 2)
    end = f"that is {left}" if above else f"only {left} is left"
    return (
        f"Gradients {verb} {rate}x per {layer} from `{span.stages[-1].name}` back to "
        f"`{span.stages[0].name}`; after {count} {layer}s {end}."
    )


def _details(
    growth: Growth, span: Span | None, measurements: Measurements, *, above: bool
) -> Iterator[str]:
    """Where most of it happens, and the gain: that is what is measured and held to the limit."""
    if not growth.plain:
        yield "This is the GSC, which the size of the activations does not change."
        return
    if _blocked(measurements, above=above) is not None:
        return
    steady = span is not None and _steady(span)
    if span is not None and steady:
        yield f"`{span.worst.name}` does the most."
    log10 = span.log10 if span is not None and steady else growth.measured.value
    yield f"As a gain, which counts squares, that is {power(log10)}."


def _blocked(measurements: Measurements, *, above: bool) -> StageRow | None:
    """The stage that passes nothing back, where gradients shrink."""
    if above:
        return None
    return next((s for s in judged_stages(measurements) if blocks(s)), None)


def _steady(span: Span) -> bool:
    """Whether a rate "per layer" would not mislead: no single stage dominates."""
    return len(span.stages) > 1 and abs(span.worst_log10) <= 0.7 * abs(span.log10)


def _fold(log10: float) -> str:
    """By how much, in either direction: ``3.2x``, ``2e4-fold``."""
    words = power(abs(log10))
    return f"{words}-fold" if {"^", "e"} & {*words} else f"{words}x"


def _noun(span: Span) -> str:
    """What users call such stages."""
    return "block" if any(stage.residual for stage in span.stages) else "layer"


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
