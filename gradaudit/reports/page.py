"""What the page says, apart from how: verdict words, findings in order, the command to repeat."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradaudit.records import Estimate, Finding, Limit, Remedy, Report
from gradaudit.reports.numbers import (
    LOG10,
    Amount,
    amount,
    count,
    interval,
    number,
    percent,
    power,
    power_interval,
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
_ORDER = {"fail": 0, "warn": 1, "note": 2}
SHOWN_PER_RULE = 3  # findings of one rule in full; the rest become table rows
_LISTED_PER_RULE = 200
_SAME = 0.02  # decades: within 5% of its limit, a ratio says nothing
_FEW = 4  # entries of a nested setting that are still listed one by one
# Options whose value at rest says nothing, in the order a command line would have them.
_OPTIONS: Mapping[str, Any] = {
    "build": None,
    "data": None,
    "batch_size": None,
    "target": None,
    "input": None,
    "loss": "auto",
    "state": "auto",
    "trust": False,
    "effort": "standard",
    "device": "cpu",
    "threads": None,
    "select": (),
    "ignore": (),
}


@dataclass(frozen=True)
class Fact:
    """A figure for the strip under the verdict."""

    label: str
    value: str
    aside: str


@dataclass(frozen=True)
class FindingView:
    """A finding with its numbers in words and the remedies that answer it, by their place."""

    finding: Finding
    place: str
    measured: Amount
    limit: Amount
    ratio: str
    remedies: tuple[tuple[int, Remedy], ...]


@dataclass(frozen=True)
class Group:
    """All findings of one rule at one severity: some in full, some in a list, the rest counted."""

    code: str
    severity: str
    shown: tuple[FindingView, ...]
    listed: tuple[FindingView, ...]
    left_out: int

    @property
    def size(self) -> int:
        """How many findings there are."""
        return len(self.shown) + len(self.listed) + self.left_out


def groups(report: Report) -> tuple[Group, ...]:
    """Findings worst first, else in the report's own order, gathered by rule."""
    remedies = report.prescription.remedies if report.prescription else ()
    gathered: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: _ORDER[f.severity]):
        gathered.setdefault((finding.severity, finding.code), []).append(finding)
    result = []
    for (severity, code), findings in gathered.items():
        listed = findings[:_LISTED_PER_RULE]
        views = tuple(finding_view(finding, remedies) for finding in listed)
        result.append(
            Group(
                code,
                severity,
                views[:SHOWN_PER_RULE],
                views[SHOWN_PER_RULE:],
                len(findings) - len(views),
            )
        )
    return tuple(result)


def finding_view(finding: Finding, remedies: Sequence[Remedy]) -> FindingView:
    """The finding's numbers as text."""
    answers = [(i, r) for i, r in enumerate(remedies, 1) if r.id in finding.remedies]
    return FindingView(
        finding,
        place(finding),
        amount(finding.measured),
        amount(finding.limit),
        _ratio(finding),
        tuple(answers),
    )


def place(finding: Finding) -> str:
    """Where a finding is, in words."""
    where = finding.where
    words = str(where) or f"stage {where.stage}"
    return f"{words}, call {where.call}" if where.call else words


def facts(report: Report) -> tuple[Fact, ...]:
    """The figures a person asks for first; those not measured are left out."""
    m = report.measurements
    found: list[Fact] = []
    if m.trunk.total_growth_log10:
        total = m.trunk.total_growth_log10
        found.append(Fact("Gain in all (norm squared)", power(total.value), power_interval(total)))
    if m.trunk.growth_per_stage:
        each = m.trunk.growth_per_stage
        found.append(Fact("Gain per stage (squared)", number(each.value), interval(each)))
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


def command(report: Report) -> str:
    """The command line that repeats the audit."""
    words = ["gradaudit", report.subject.source]
    for name, rest in _OPTIONS.items():
        value = report.settings.get(name, rest)
        if value is None or value == rest or value in ((), []):
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(",".join(value) if isinstance(value, (tuple, list)) else str(value))
    recipe = report.recipe
    for name in (
        "optimizer", "lr", "momentum", "betas", "weight_decay", "clip_norm", "warmup", "precision",
    ):  # fmt: skip
        value = getattr(recipe, name)
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += ["--" + name.replace("_", "-"), text]
    words += ["--steps", str(recipe.steps), "--seed", str(report.seed)]
    return shlex.join(words)


def flat(mapping: Mapping[str, Any], skip: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """A mapping as names and text, nested ones with dotted names, empty values left out."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if key in skip or value is None or value in ((), [], ""):
            continue
        if isinstance(value, Mapping):
            if len(value) > _FEW:
                rows.append((str(key), _summary(list(value.values()))))
            else:
                rows += [(f"{key}.{name}", text) for name, text in flat(value)]
        else:
            rows.append((str(key), say(value)))
    return tuple(rows)


def say(value: object) -> str:
    """A value of a setting or a remedy in words."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case float():
            return number(value)
        case Estimate():
            return f"{number(value.value)} {value.unit}"
        case Limit():
            return f"{number(value.value)} {value.unit}"
        case list() | tuple():
            return ", ".join(say(item) for item in value)
        case _:
            return str(value)


def confidence(report: Report) -> str:
    """How sure the forecast is; empty where there is none."""
    known = report.forecast.outcome != "unknown"
    return f"{percent(report.forecast.confidence)} confident" if known else ""


def _summary(values: Sequence[object]) -> str:
    """Many values in a few words: the range of numbers, or what they are."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        text = say(low) if low == high else f"{say(low)} – {say(high)}"
    else:
        kinds = list(dict.fromkeys(map(say, values)))
        text = ", ".join(kinds[:_FEW]) + (", …" if len(kinds) > _FEW else "")
    return f"{text} ({len(values):,} values)"


def _ratio(finding: Finding) -> str:
    """How far past its limit a failing or warning finding is, where the two compare."""
    measured, limit = finding.measured, finding.limit
    logs = measured.unit.startswith(LOG10) and limit.unit.startswith(LOG10)
    if finding.severity == "note" or not (logs or measured.unit == limit.unit):
        return ""
    if logs:
        decades = measured.value - limit.value
    elif min(measured.value, limit.value) > 0:
        decades = math.log10(measured.value) - math.log10(limit.value)
    else:
        return ""
    if abs(decades) < _SAME:
        return ""
    return f"{power(decades)} × the limit" if decades > 0 else f"the limit / {power(-decades)}"
