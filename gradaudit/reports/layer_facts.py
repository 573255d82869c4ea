"""What is known about one layer, in words: every number with its interval, gathered by kind."""

from __future__ import annotations

from collections.abc import Iterator

from gradaudit.records import AttentionRow, ModuleRow, ParameterRow, StageRow, WeightRow
from gradaudit.reports.layers import Layer
from gradaudit.reports.numbers import (
    interval,
    number,
    percent,
    power,
    power_interval,
    share_interval,
)
from gradaudit.reports.page import Fact
from gradaudit.reports.sections import through_time
from gradaudit.reports.text import plural

SHOWN_PER_KIND = 6  # calls, weights or parameters of one layer; the rest is counted


def groups(layer: Layer) -> tuple[tuple[str, tuple[Fact, ...]], ...]:
    """Headings with figures under them; what was not measured is left out."""
    return tuple((heading, tuple(facts)) for heading, facts in _groups(layer) if facts)


def _groups(layer: Layer) -> Iterator[tuple[str, list[Fact]]]:
    for stage in layer.stages[:SHOWN_PER_KIND]:
        yield f"Stage {stage.index}", list(_stage(stage))
    for row in layer.calls[:SHOWN_PER_KIND]:
        yield ("Output" if not row.call else f"Output, call {row.call}"), list(_call(row))
    updates = {row.parameter: row for row in layer.parameters}
    for weight in layer.weights[:SHOWN_PER_KIND]:
        known = updates.pop(weight.parameter, None)
        yield weight.parameter, [*_weight(weight), *(_parameter(known) if known else ())]
    for parameter in list(updates.values())[:SHOWN_PER_KIND]:
        yield parameter.parameter, list(_parameter(parameter))
    for attended in layer.attention[:SHOWN_PER_KIND]:
        yield "Attention", list(_attention(attended, layer))
    for recurrent in layer.recurrent[:SHOWN_PER_KIND]:
        yield f"Through time, {recurrent.direction}", list(through_time(recurrent))
    if left := _left_out(layer):
        yield "And more", [Fact("In the JSON report", left, "")]


def _left_out(layer: Layer) -> str:
    counted = {
        "stage": len(layer.stages),
        "call": len(layer.calls),
        "weight": len(layer.weights),
        "other parameter": len(layer.parameters) - len(layer.weights),
    }
    more = ((name, count - SHOWN_PER_KIND) for name, count in counted.items())
    return ", ".join(plural(count, f"more {name}") for name, count in more if count > 0)


def _stage(row: StageRow) -> Iterator[Fact]:
    if row.backward_gain:
        yield Fact("Gain", number(row.backward_gain.value), interval(row.backward_gain))
    if row.forward_gain:
        yield Fact("Forward gain", number(row.forward_gain.value), interval(row.forward_gain))
    if row.gsc:
        yield Fact("GSC", number(row.gsc.value), interval(row.gsc))
    if row.jacobian_norm_log10:
        norm = row.jacobian_norm_log10
        yield Fact("Accumulated norm", power(norm.value), power_interval(norm))
    if row.top_singular_values:
        top = row.top_singular_values[0]
        yield Fact("Largest singular value", number(top.value), interval(top))
    if row.output_rms is not None:
        yield Fact("Output rms", number(row.output_rms), "at the stage's end")


def _call(row: ModuleRow) -> Iterator[Fact]:
    if row.output_rms is not None:
        yield Fact("Output rms", number(row.output_rms), "")
    if row.gradient_rms is not None:
        yield Fact("Gradient rms", number(row.gradient_rms), "at the output")
    if row.dead_fraction is not None:
        yield Fact("Dead units", percent(row.dead_fraction), "")
    if row.saturated_fraction is not None:
        yield Fact("Saturated", percent(row.saturated_fraction), "of outputs")
    if row.effective_rank is not None:
        possible = f"of {row.rank_limit}" if row.rank_limit else ""
        yield Fact("Effective rank", number(row.effective_rank), possible)
    if row.sample_correlation is not None:
        yield Fact("Sample cosine", number(row.sample_correlation), "mean of two samples")


def _weight(row: WeightRow) -> Iterator[Fact]:
    yield Fact("Shape", " × ".join(map(str, row.shape)), row.kind)
    if not row.finite:
        yield Fact("Not finite", f"{row.nonfinite_entries:,}", "entries")
    if row.spectral_norm:
        yield Fact("Spectral norm", number(row.spectral_norm.value), interval(row.spectral_norm))
    if row.random_edge:
        yield Fact("Random entries'", number(row.random_edge), "norm at this size")
    if row.stable_rank is not None:
        yield Fact("Stable rank", number(row.stable_rank), "")
    if row.spectral_radius is not None:
        yield Fact("Spectral radius", number(row.spectral_radius), "")
    for part in row.parts:
        if part.spectral_norm:
            norm = part.spectral_norm
            yield Fact(f"Norm of its {part.name}", number(norm.value), interval(norm))
    if row.folded_norm:
        words = f"with {row.folded_with} folded in" if row.folded_with else "as at eval"
        yield Fact("Folded norm", number(row.folded_norm.value), words)
    yield Fact("Looks like", row.initialization, "")


def _parameter(row: ParameterRow) -> Iterator[Fact]:
    yield Fact("Weight norm", number(row.weight_norm), "" if row.trainable else "frozen")
    if row.gradient_norm:
        yield Fact("Gradient norm", number(row.gradient_norm.value), interval(row.gradient_norm))
    if row.update_ratio:
        yield Fact("Update / weight", number(row.update_ratio.value), interval(row.update_ratio))
    if not row.connected:
        yield Fact("Reached by the loss", "no", "")


def _attention(row: AttentionRow, layer: Layer) -> Iterator[Fact]:
    yield Fact("Heads", str(row.heads), f"{row.queries} × {row.keys}")
    if row.entropy:
        yield Fact("Entropy", percent(row.entropy.value), share_interval(row.entropy))
    if row.lowest_entropy is not None:
        yield Fact("Lowest head", percent(row.lowest_entropy), f"head {row.lowest_head}")
    if row.largest_logit is not None:
        yield Fact("Largest logit", number(row.largest_logit), "")
    for name, norms in (
        ("QK", [head.qk.value for head in layer.heads if head.qk]),
        ("OV", [head.ov.value for head in layer.heads if head.ov]),
    ):
        if norms:
            yield Fact(f"{name} norm", number(max(norms)), "largest of its heads")
