"""What a test that fails by its verdict prints: plain lines, cause first, then number by number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradaudit.records.comparison import FindingChange, MetricChange
from gradaudit.records.estimate import Estimate
from gradaudit.records.findings import Finding, Verdict
from gradaudit.telling import printable

if TYPE_CHECKING:
    from gradaudit.records.report import Report

_SHOWN = 8  # findings, and changes since the baseline
_CODE_LINES = 8


def complaint(report: Report, outcome: Verdict, fail_on: str) -> str:
    """Verdict, cause, what is new since a baseline, findings with their numbers, first change."""
    return "\n".join(_lines(report, outcome, fail_on))


def _lines(report: Report, outcome: Verdict, fail_on: str) -> Iterator[str]:
    yield f"{outcome}: {printable(report.cause)}"
    forecast = report.forecast
    if forecast.outcome != "unknown":
        yield f"  forecast: {forecast.outcome}, {forecast.confidence:.0%} confident"
    if report.comparison is not None:
        yield f"  since {printable(report.comparison.against)}:"
        yield from _cut([_changed(each) for each in report.comparison.regressions])
    counted = ("fail", "warn") if fail_on == "warn" else ("fail",)
    found = [f for f in report.findings if f.severity in counted]
    yield from _cut([_finding(each) for each in found])
    if report.prescription is not None and report.prescription.remedies:
        first, proof = report.prescription.remedies[0], report.prescription.proof
        yield f"  first change: {printable(first.title)}"
        code = first.code.strip().splitlines()
        if len(code) > _CODE_LINES:
            yield f"    {len(code)} lines to paste: report.prescription.remedies[0].code"
        else:
            yield from (f"    {line}" for line in code)
        if proof is not None:
            before, after = proof.before.forecast.outcome, proof.after.forecast.outcome
            yield f"  shown to work: {before} -> {after} in {proof.steps} steps"
    if outcome == "inconclusive":
        yield from _cut(
            [f"  - not measured: {n.what}: {printable(n.why)}" for n in report.not_measured]
        )
    effort = report.settings.get("effort")
    yield f"  (gradaudit {report.version}, effort {effort}, seed {report.seed})"


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"  and {more} more"]


def _finding(finding: Finding) -> str:
    place = printable(str(finding.where)) or "the model"
    limit = f"limit {finding.limit.value:.3g}"
    return (
        f"  {finding.severity} {finding.code} {finding.name} in {place}: "
        f"{_measured(finding.measured)}, {limit} ({printable(finding.limit.unit)})"
    )


def _changed(change: FindingChange | MetricChange) -> str:
    if isinstance(change, MetricChange):
        return f"  - {printable(change.title or change.metric)} {printable(change.why)}"
    known = change.known
    return f"  - {printable(f'{known.code} {known.name} in {known.place}: {change.why}')}"


def _measured(measured: Estimate) -> str:
    low, high = measured.low, measured.high
    if low == high:
        return f"{measured.value:.3g}"
    ends = ("?" if end is None else f"{end:.3g}" for end in (low, high))
    return f"{measured.value:.3g} ({' to '.join(ends)})"
