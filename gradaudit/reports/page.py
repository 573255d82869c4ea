"""What the page says at its top: the verdict, the forecast, and the figures asked for first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradaudit.records import Report
from gradaudit.reports.numbers import (
    LOG10,
    count,
    interval,
    number,
    percent,
    power,
    power_interval,
    root,
    root_log10,
)
from gradaudit.reports.text import plural

VERDICTS = {
    "fail": "Fail",
    "warn": "Warning",
    "pass": "Pass",
    "inconclusive": "Inconclusive",
}
OUTCOMES = {
    "trains": "It trains",
    "stalls": "It stalls",
    "diverges": "It diverges",
    "unknown": "No forecast",
}


@dataclass(frozen=True)
class Fact:
    """A figure with its label above and an aside below."""

    label: str
    value: str
    aside: str


def facts(report: Report) -> tuple[Fact, ...]:
    """The figures a person asks for first; those not measured are left out."""
    m = report.measurements
    found: list[Fact] = []
    if m.trunk.total_growth_log10:
        total = root_log10(m.trunk.total_growth_log10)
        found.append(Fact("Gradient's growth in all", power(total.value), power_interval(total)))
    if m.trunk.growth_per_stage:
        each = root(m.trunk.growth_per_stage)
        found.append(Fact("Growth per hidden stage", number(each.value), interval(each)))
    if m.gradient_norm:
        norm = m.gradient_norm
        aside = f"median of {plural(norm.batches, 'batch')}"
        found.append(Fact("Gradient norm", number(norm.median), aside))
    if m.loss and m.loss.initial:
        guess = m.loss.chance if m.loss.chance is not None else m.loss.constant
        aside = f"a blind guess: {number(guess)}" if guess is not None else m.loss.kind
        found.append(Fact("Loss at the start", number(m.loss.initial.value), aside))
    if m.rehearsal:
        aside = f"{plural(m.rehearsal.steps, 'step')} of {m.rehearsal.optimizer}"
        found.append(Fact("Loss in rehearsal", m.rehearsal.outcome, aside))
    return tuple(found)


def subject(report: Report) -> str:
    """What was audited, in a few words."""
    row = report.subject
    words = [row.name, row.format, f"{count(row.parameters)} parameters"]
    words.append(plural(row.stages, "stage") if row.stages else "")
    return ", ".join(filter(None, words))


def growth_limits(report: Report) -> tuple[tuple[float, str], ...]:
    """The limits on total growth in force: from the settings, else from the findings."""
    known: dict[float, str] = {}
    limits = report.settings.get("limits")
    if isinstance(limits, Mapping):
        for name in ("growth_max", "growth_min"):
            value = getattr(limits.get(name), "value", None)
            if value is not None:
                known[value] = f"limit {number(value)}"
    for finding in report.findings:
        limit = finding.limit
        if finding.name in ("exploding-jacobian", "vanishing-jacobian") and "gain" in limit.unit:
            value = 10**limit.value if limit.unit.startswith(LOG10) else limit.value
            known[value] = f"limit {number(value)}"
    return tuple(known.items())


def confidence(report: Report) -> str:
    """How sure the forecast is; empty where there is none."""
    known = report.forecast.outcome != "unknown"
    return f"{percent(report.forecast.confidence)} confident" if known else ""
