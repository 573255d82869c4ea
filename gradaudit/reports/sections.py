"""The figures of each section, in words: value, interval, and what it stands beside."""

from __future__ import annotations

from gradaudit.records import Curvature, Estimate, Measurements, NonFinite, Precision, RecurrentRow
from gradaudit.reports.numbers import (
    interval,
    number,
    percent,
    power,
    power_interval,
    root,
    root_log10,
    share_interval,
)
from gradaudit.reports.page import Fact
from gradaudit.reports.text import plural, short_path, typeset

_EXPONENTS_SHOWN = 4
_GATES = {"LSTM": "Forget gate", "GRU": "Update gate"}


def rate(m: Measurements) -> tuple[Fact, ...]:
    """Curvature, and what it allows the learning rate to be."""
    row = m.curvature
    if row is None:
        return ()
    named = (
        ("Sharpness", row.sharpness),
        (f"Sharpness under {row.optimizer}", row.preconditioned_sharpness),
        ("Highest stable rate", row.rate_ceiling),
        ("Lowest curvature", row.lowest),
    )
    found = [_fact(label, estimate) for label, estimate in named if estimate]
    if row.ceiling:
        found.append(Fact("Your rate bears", number(row.ceiling.value), row.rule))
    return tuple(found)


def rate_words(m: Measurements) -> str:
    """Where the recipe's rate lies with respect to the measured curvature."""
    ceiling, lr = m.curvature.rate_ceiling if m.curvature else None, m.recipe.lr
    if ceiling is None or not lr:
        return ""
    if ceiling.high is not None and lr > ceiling.high:
        ratio = number(lr / ceiling.value)
        return f"Your rate {number(lr)} is {ratio} times what this curvature bears."
    if ceiling.low is not None and lr < ceiling.low:
        return f"Your rate {number(lr)} is within what this curvature bears."
    return f"Your rate {number(lr)} is about what this curvature bears: too close to tell."


def effort(row: Curvature) -> str:
    """What the curvature was measured with."""
    words = plural(row.products, "Hessian-vector product")
    if row.samples and row.of_batch > row.samples:
        return f"{words} on {row.samples} of the batch's {plural(row.of_batch, 'sample')}"
    return f"{words} on {plural(row.samples, 'sample')}" if row.samples else words


def through_time(row: RecurrentRow) -> tuple[Fact, ...]:
    """How far back the gradient reaches, and what the state itself does."""
    found = []
    if row.growth_per_step:
        found.append(_fact("Growth per step", root(row.growth_per_step)))
    if row.growth_log10:
        total = root_log10(row.growth_log10)
        found.append(Fact("Growth over all steps", power(total.value), power_interval(total)))
    if row.horizon is not None:
        found.append(Fact("Falls below 1%", f"{plural(row.horizon, 'step')} back", ""))
    if row.forget_gate:
        gate = row.forget_gate
        label = _GATES.get(row.type, "Gate")
        found.append(Fact(label, percent(gate.value), share_interval(gate)))
    if row.spectral_radius is not None:
        found.append(Fact("Spectral radius", number(row.spectral_radius), ""))
    return tuple(found)


def exponents(row: RecurrentRow) -> tuple[tuple[str, str], ...]:
    """The largest Lyapunov exponents with their intervals."""
    shown = row.lyapunov[:_EXPONENTS_SHOWN]
    return tuple((number(exponent.value), interval(exponent)) for exponent in shown)


def by_length(row: RecurrentRow) -> tuple[tuple[str, str, str], ...]:
    """The gain over all steps, had the sequence been shorter."""
    return tuple(
        (plural(steps, "step"), power(gain.value), power_interval(gain))
        for steps, gain in row.growth_by_length
    )


def norms(m: Measurements) -> tuple[Fact, ...]:
    """The distribution of the gradient norm, what to clip at, and the noise in it."""
    norm = m.gradient_norm
    found = []
    if norm:
        aside = f"of {plural(norm.batches, 'batch')}"
        found.append(Fact("Median", number(norm.median), aside))
        found.append(Fact("95th percentile", number(norm.p95), f"largest {number(norm.max)}"))
        if norm.tail_index:
            found.append(_fact("Tail index", norm.tail_index))
        if norm.clip_threshold is not None:
            found.append(Fact("Clip at", number(norm.clip_threshold), typeset(norm.clip_basis)))
        if norm.clip_rate:
            bounds = share_interval(norm.clip_rate)
            found.append(Fact("That would clip", percent(norm.clip_rate.value), bounds))
    if m.noise_scale:
        value = number(m.noise_scale.value)
        found.append(Fact("Noise scale", f"{value} samples", interval(m.noise_scale)))
    return tuple(found)


def noise_words(m: Measurements) -> str:
    """The noise scale beside the batch that is used."""
    scale, batch = m.noise_scale, m.sample.batch_size
    if scale is None or not batch:
        return ""
    if scale.low is not None and batch < scale.low:
        return (
            f"Noise outweighs signal in a batch of {batch}: a larger batch makes each step "
            "worth more, about in proportion."
        )
    if scale.high is not None and batch > scale.high:
        return (
            f"In a batch of {batch} the signal outweighs the noise: a larger batch would gain "
            "little per step."
        )
    return f"A batch of {batch} is about as much signal as noise."


def precision(row: Precision) -> tuple[Fact, ...]:
    """The format that was asked for, and the loss scale."""
    found = []
    if row.asked:
        found.append(Fact("Your recipe", row.asked, ""))
    kind = "autocast" if row.regime == "autocast" else "pure half precision"
    found.append(Fact("Foretold for", kind, f"weights in {row.weights}"))
    if row.loss_scale:
        found.append(Fact("Loss scale for fp16", number(row.loss_scale), "largest safe power of 2"))
    largest = max(row.formats, key=lambda half: half.largest_activation or 0.0, default=None)
    if largest and largest.largest_activation is not None:
        parts = (largest.largest_activation_op, largest.largest_activation_at)
        place = " in ".join(filter(None, parts))
        found.append(Fact("Largest activation", number(largest.largest_activation), place))
    return tuple(found)


def origin(item: NonFinite) -> str:
    """``model.py, line 12``; empty where the line is unknown."""
    if not item.file:
        return ""
    file = short_path(item.file)
    return file if item.line is None else f"{file}, line {item.line}"


def _fact(label: str, estimate: Estimate) -> Fact:
    return Fact(label, number(estimate.value), interval(estimate))
