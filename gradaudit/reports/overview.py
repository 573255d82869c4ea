"""Several models beside each other, and one model beside its baseline, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradaudit.records import (
    Audited,
    Comparison,
    Estimate,
    FindingChange,
    Known,
    MetricChange,
    Run,
)
from gradaudit.reports import comparison_words as words
from gradaudit.reports.gate_words import tally
from gradaudit.reports.numbers import amount
from gradaudit.reports.page import OUTCOMES, VERDICTS, confidence, subject
from gradaudit.reports.text import plural

_ICONS = {"new": "fail", "worse": "fail", "better": "pass", "fixed": "pass", "unchanged": "note"}
_STATES = {0: "pass", 1: "fail", 2: "error", 3: "inconclusive"}
_ENDS = {
    0: "Every model passes",
    1: "Not every model passes",
    2: "Not every model could be audited",
    3: "Too little could be measured to judge every model",
}


@dataclass(frozen=True)
class ModelRow:
    """One model of a run as a row."""

    name: str
    link: str  # relative address of its page, or empty
    state: str  # icon: a verdict, or "error"
    verdict: str
    forecast: str
    confidence: str
    subject: str
    words: str  # the cause, or why there is no report
    failing: int
    warning: int
    regressions: int | None  # beside the baseline, where there is one
    without: str = ""  # the verdict without the baseline, where that is another


@dataclass(frozen=True)
class Changed:
    """A finding or a number before and now."""

    change: str
    icon: str
    code: str  # of a finding; empty for a number
    what: str
    place: str
    unit: str
    before: tuple[str, str]  # value and interval; empty where it was not there
    now: tuple[str, str]
    why: str


@dataclass(frozen=True)
class ComparedView:
    """What changed since the baseline, the worst first."""

    against: str
    summary: str
    icon: str
    stale: tuple[str, ...]
    regressions: tuple[Changed, ...]
    improvements: tuple[Changed, ...]
    unchanged: tuple[Changed, ...]


def rows(run: Run, links: Mapping[str, str]) -> tuple[ModelRow, ...]:
    """The models of a run, in its order."""
    return tuple(_row(audited, links.get(audited.name, "")) for audited in run.audits)


def summary(run: Run) -> str:
    """How the run as a whole ends, in a sentence."""
    words = f"{_ENDS[run.exit_code]}." if run.audits else "No model was audited."
    states: Counter[str] = Counter(audited.verdict or "error" for audited in run.audits)
    counted = ", ".join(f"{states[name]} {name}" for name in (*VERDICTS, "error") if states[name])
    return f"{words} {plural(len(run.audits), 'model')}: {counted}." if counted else words


def state(run: Run) -> str:
    """The icon of the run as a whole."""
    return _STATES[run.exit_code]


def compared(comparison: Comparison | None) -> ComparedView | None:
    """A comparison in words; ``None`` where there is none."""
    if comparison is None:
        return None
    regressions = _views(comparison.regressions)
    said = ", ".join(f"{count:,} {change}" for change, count in tally(comparison).items())
    return ComparedView(
        comparison.against,
        said or "nothing to compare",
        "fail" if regressions else "pass",
        comparison.stale,
        regressions,
        _views(words.improvements(comparison)),
        _views(words.unchanged(comparison)),
    )


def _views(rows: Sequence[words.Row]) -> tuple[Changed, ...]:
    return tuple(_metric(row) if isinstance(row, MetricChange) else _finding(row) for row in rows)


def _row(audited: Audited, link: str) -> ModelRow:
    report, verdict = audited.report, audited.verdict
    if report is None or verdict is None:
        return ModelRow(
            audited.name, link, "error", "Not audited", "", "", "", audited.error, 0, 0, None
        )
    held = Counter(finding.severity for finding in report.findings)
    return ModelRow(
        audited.name,
        link,
        verdict,
        VERDICTS[verdict],
        OUTCOMES[report.forecast.outcome],
        confidence(report),
        subject(report),
        report.cause,
        held["fail"],
        held["warn"],
        len(report.comparison.regressions) if report.comparison else None,
        VERDICTS[report.verdict] if verdict != report.verdict else "",
    )


def _finding(row: FindingChange) -> Changed:
    known = row.known
    return Changed(
        row.change,
        _ICONS[row.change],
        known.code,
        known.name,
        known.place,
        _unit(known.measured),
        _known(row.before),
        _known(row.now),
        row.why,
    )


def _metric(row: MetricChange) -> Changed:
    return Changed(
        row.change,
        _ICONS[row.change],
        "",
        row.title or row.metric.replace("_", " "),
        row.place,
        _unit(row.now or row.before),
        _estimate(row.before),
        _estimate(row.now),
        row.why or f"held to {row.tolerance}",
    )


def _known(known: Known | None) -> tuple[str, str]:
    if known is None:
        return "", ""
    if known.measured is None:
        return VERDICTS.get(known.severity, "Note"), ""
    return _estimate(known.measured)


def _estimate(measured: Estimate | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    words = amount(measured)
    return words.value, words.interval


def _unit(measured: Estimate | None) -> str:
    return amount(measured).unit if measured else ""
