"""What the gate's formats say of findings: numbers in a line, and what the baseline knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradaudit.records import (
    PAST,
    SEVERITIES,
    Audited,
    Estimate,
    Finding,
    FindingChange,
    Limit,
    MetricChange,
    Remedy,
    Report,
    Severity,
)
from gradaudit.reports.numbers import PAGE, Style, phrase, value
from gradaudit.reports.text import one_line, plural, shorten

_KNOWN = ("unchanged", "better")
_PLACE_LETTERS = 120


@dataclass(frozen=True)
class Claim:
    """A finding, its change since the baseline if there is one, and whether the gate counts it."""

    finding: Finding
    change: FindingChange | None
    known: bool  # the baseline has it, as bad or worse
    counts: bool


@dataclass(frozen=True)
class Gathered:
    """All claims of one rule at one severity, in the report's order: the worst first."""

    code: str
    name: str
    severity: Severity
    claims: tuple[Claim, ...]

    @property
    def worst(self) -> Finding:
        """The first of them."""
        return self.claims[0].finding


def claims(audited: Audited) -> tuple[Claim, ...]:
    """The findings of a model, worst first, else in the report's order."""
    report = audited.report
    if report is None:
        return ()
    changes = _changes(report)
    made = [_claim(audited, each, changes) for each in report.findings]
    return tuple(sorted(made, key=lambda claim: SEVERITIES.index(claim.finding.severity)))


def _claim(
    audited: Audited, finding: Finding, changes: dict[tuple[str, str], list[FindingChange]]
) -> Claim:
    left = changes.get(_key(finding)) if changes else None
    change = left.pop(0) if left else None
    known = change is not None and change.change in _KNOWN
    return Claim(finding, change, known, audited.counts(finding.severity) and not known)


def gathered(found: Sequence[Claim]) -> Iterator[Gathered]:
    """Claims by rule and severity, in the order of the first of each."""
    groups: dict[tuple[str, Severity], list[Claim]] = {}
    for claim in found:
        groups.setdefault((claim.finding.code, claim.finding.severity), []).append(claim)
    for (code, severity), members in groups.items():
        yield Gathered(code, members[0].finding.name, severity, tuple(members))


def regressed(report: Report) -> tuple[MetricChange, ...]:
    """Measured numbers that are beyond their tolerance; each fails the gate."""
    changes = report.comparison.metrics if report.comparison else ()
    return tuple(each for each in changes if each.change in PAST)


def told(change: MetricChange) -> str:
    """``growth per stage 1.17 -> 33.2: worse by more than its interval and 10%.``"""
    title = change.title or change.metric.replace("_", " ")
    joint = ":" if change.why[:1].isalpha() else ""  # a sentence of its own
    return one_line(f"{title}{joint} {change.why}")


def place(finding: Finding) -> str:
    """Parameter, module or stage, on one line of bearable length."""
    where = finding.where
    words = shorten(str(where) or f"stage {where.stage}", _PLACE_LETTERS)
    return f"{words}, call {where.call}" if where.call else words


def numbers(
    measured: Estimate | None, limit: Limit | None = None, style: Style = PAGE, *, unit: bool = True
) -> str:
    """``gain 1.6×10³⁶ (10³⁶ – 2×10³⁶), limit 1000, as sums of squares``."""
    if measured is None:
        return "not measured"
    return one_line(phrase(measured, limit, style)) if unit else value(measured, style)


def several(group: Gathered, style: Style = PAGE) -> str:
    """A rule's claims in one line: the first with its numbers, and how many there are."""
    worst = group.worst
    text = f"{place(worst)}: {numbers(worst.measured, worst.limit, style)}"
    left = len(group.claims) - 1
    return f"{text}; and {plural(left, 'more place')}" if left else text


def answer(report: Report, finding: Finding) -> Remedy | None:
    """The first change that is prescribed for a finding."""
    remedies = report.prescription.remedies if report.prescription else ()
    return next((each for each in remedies if each.id in finding.remedies), None)


def _changes(report: Report) -> dict[tuple[str, str], list[FindingChange]]:
    """What changed, by rule and place; several at one place are in the report's order."""
    comparison = report.comparison
    found: dict[tuple[str, str], list[FindingChange]] = {}
    for each in comparison.findings if comparison is not None else ():
        if each.now is not None:
            found.setdefault((each.now.code, each.now.place), []).append(each)
    return found


def _key(finding: Finding) -> tuple[str, str]:
    where = finding.where
    place = where.parameter or where.module or "the model"
    return finding.code, f"{place} (call {where.call})" if where.call else place
