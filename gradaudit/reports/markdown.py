"""Markdown of a run, for a job's summary and a comment on a pull request.

GitHub takes 65,536 letters in a comment: a longer text is made shorter by showing fewer findings
of each rule, not by being cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradaudit.records import (
    CHANGES,
    Audited,
    Finding,
    FindingChange,
    MetricChange,
    Report,
    Run,
    Verdict,
)
from gradaudit.reports import page
from gradaudit.reports.claims import Claim, Gathered, answer, claims, gathered, numbers, place
from gradaudit.reports.gate_words import gate
from gradaudit.reports.markdown_text import block, code, prose
from gradaudit.reports.numbers import amount
from gradaudit.reports.spots import spot
from gradaudit.reports.text import one_line, opening, plural, shorten

MARKER = "<!-- gradaudit report -->"  # the first line: by it a file or comment is known for ours
MOST = 60_000  # bytes
_SYMBOLS = {"fail": "❌", "warn": "⚠️", "pass": "✅", "inconclusive": "❔", "note": "ℹ️"}
_CANNOT = "🛑"
_SENTENCE, _UNIT, _NAME = 700, 60, 80  # letters
_MODELS = 200
_FEWER = (_MODELS, 100, 30, 10, 0)  # where the list of them alone is too long


class _Detail(NamedTuple):
    """How much of each model is told."""

    findings: int  # of each rule
    changes: int  # of each kind
    code_lines: int
    missing: int


_DETAILS = (
    _Detail(5, 40, 60, 30),
    _Detail(3, 20, 40, 15),
    _Detail(1, 10, 20, 5),
    _Detail(1, 3, 0, 0),
)


def render(run: Run) -> str:
    """Verdict, cause, what changed, findings, and the first change to make; at most 60 kB."""
    for detail in _DETAILS:
        text = _whole(run, _sections(run, detail))
        if _size(text) <= MOST:
            return text
    brief = [_brief(run.audits[0])] if len(run.audits) == 1 else []
    for models in _FEWER:
        text = _whole(run, brief, models)
        if _size(text) <= MOST:
            break
    return text


def _sections(run: Run, detail: _Detail) -> list[str]:
    """A section for each model, up to where they are too long."""
    sections: list[str] = []
    for audited in run.audits:
        sections.append(_section(run, audited, detail))
        if sum(map(_size, sections)) > MOST:
            break
    return sections


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def _whole(run: Run, sections: list[str], models: int = _MODELS) -> str:
    parts = [MARKER]
    if len(run.audits) > 1:
        parts += [_headline(run), _models(run, models)]
    parts += sections
    return "\n\n".join([*parts, f"<sub>gradaudit {prose(run.version)}</sub>"]) + "\n"


def _headline(run: Run) -> str:
    symbol = {0: "✅", 1: "❌", 3: "❔"}.get(run.exit_code, _CANNOT)
    passed = sum(each.exit_code == 0 for each in run.audits)
    return f"## {symbol} gradaudit: {passed} of {plural(len(run.audits), 'model')} pass the gate"


def _models(run: Run, most: int) -> str:
    rows = ["| | model | verdict | cause |", "|---|---|---|---|"]
    for each in run.audits[:most]:
        symbol, word = _verdict(each.verdict)
        why = each.report.cause if each.report else each.error
        cause = prose(opening(why, 200))
        rows.append(f"| {symbol} | {code(each.name, _NAME)} | {word} | {cause} |")
    left = len(run.audits) - most
    return "\n".join(rows) + (f"\n\nand {plural(left, 'more model')}" if left > 0 else "")


def _verdict(verdict: Verdict | None) -> tuple[str, str]:
    return (_SYMBOLS[verdict], page.VERDICTS[verdict]) if verdict else (_CANNOT, "Cannot run")


def _section(run: Run, audited: Audited, detail: _Detail) -> str:
    level = "###" if len(run.audits) > 1 else "##"
    report = audited.report
    if report is None:
        return _brief(audited, level)
    found = claims(audited)
    cause = f"**Cause.** {prose(shorten(report.cause, _SENTENCE))}"
    if audited.verdict != report.verdict:
        told = page.VERDICTS[report.verdict]
        cause = f"**Without the baseline: {told}.** {cause}"
    parts = [_head(audited, level), cause, _forecast(report)]
    parts += _comparison(report, detail, audited.fail_on)
    parts += _findings(run, report, found, detail)
    parts += [*_remedy(report, found, detail), *_missing(report, detail)]
    return "\n\n".join(parts)


def _head(audited: Audited, level: str) -> str:
    symbol, word = _verdict(audited.verdict)
    return f"{level} {symbol} {word}: {code(audited.name, _NAME)}"


def _brief(audited: Audited, level: str = "##") -> str:
    """The least that can be said of a model."""
    report = audited.report
    word, why = ("Cause", report.cause) if report else ("Cannot run", audited.error)
    return f"{_head(audited, level)}\n\n**{word}.** {prose(shorten(why, _SENTENCE))}"


def _forecast(report: Report) -> str:
    sure = page.confidence(report)
    because = ", ".join(report.forecast.because[:8])
    text = page.OUTCOMES[report.forecast.outcome] + (f", {sure}" if sure else "")
    return f"**Forecast.** {text}" + (f", because of {prose(because)}." if because else ".")


def _comparison(report: Report, detail: _Detail, fail_on: str) -> Iterator[str]:
    """What changed since the baseline: what is new and worse first."""
    comparison, ends = report.comparison, gate(report, fail_on)
    if ends is None:
        return
    if comparison is None:
        yield f"**{ends}.**"
        return
    yield f"**{ends.before}{code(ends.against, _NAME)}{ends.after}.**"
    rows = []
    for kind in CHANGES[:-1]:  # but for what is unchanged
        those = comparison.rows(kind)
        rows += [_change(each) for each in those[: detail.changes]]
        if those[detail.changes :]:
            rows.append(f"| {kind} | {len(those) - detail.changes} more | | | | |")
    if rows:
        header = "| | what | where | before | now | why |\n|---|---|---|---|---|---|\n"
        yield header + "\n".join(rows)
    if comparison.stale:
        yield "**Stale.** " + " ".join(prose(shorten(why, 300)) for why in comparison.stale[:5])


def _change(change: FindingChange | MetricChange) -> str:
    if isinstance(change, MetricChange):
        what, at = change.title or change.metric, change.place
        before, now = change.before, change.now
    else:
        known = change.known
        what, at = f"{known.code} {known.name}", known.place
        before = change.before.measured if change.before else None
        now = change.now.measured if change.now else None
    cells = (
        f"**{change.change}**",
        prose(shorten(what, _NAME)),
        at if at == "the model" else code(at),
        prose(numbers(before, unit=False)) if before else "–",
        prose(numbers(now, unit=False)) if now else "–",
        prose(shorten(change.why, 300)),
    )
    return f"| {' | '.join(cells)} |"


def _findings(run: Run, report: Report, found: tuple[Claim, ...], detail: _Detail) -> Iterator[str]:
    if not found:
        return
    rows = ["| | rule | where | measured | limit |", "|---|---|---|---|---|"]
    for group in gathered(found):
        shown = group.claims[: detail.findings]
        rows += [_row(run, report, claim) for claim in shown]
        left = len(group.claims) - len(shown)
        if left:
            more = f"and {plural(left, 'more place')}"
            rows.append(f"| {_SYMBOLS[group.severity]} | {_rule(group.worst)} | {more} | | |")
    yield "\n".join(rows)
    yield "\n".join(_why(group) for group in gathered(found) if group.severity != "note")


def _row(run: Run, report: Report, claim: Claim) -> str:
    finding = claim.finding
    limit = amount(finding.limit)
    named = code(place(finding)) if str(finding.where) != "the model" else "the model"
    at = code(str(spot(run, report, finding.where)), _NAME)
    known = " (known)" if claim.known else ""
    cells = (
        _SYMBOLS[finding.severity],
        _rule(finding) + known,
        f"{named} at {at}",
        prose(numbers(finding.measured, unit=False)),
        prose(f"{limit.value} {shorten(limit.unit, _UNIT)}"),
    )
    return f"| {' | '.join(cells)} |"


def _rule(finding: Finding) -> str:
    return prose(shorten(f"{finding.code} {finding.name}", _NAME))


def _why(group: Gathered) -> str:
    return f"- **{_rule(group.worst)}**: {prose(shorten(group.worst.why, _SENTENCE))}"


def _remedy(report: Report, found: tuple[Claim, ...], detail: _Detail) -> Iterator[str]:
    """The first change, its code folded, and how many more there are."""
    remedies = report.prescription.remedies if report.prescription else ()
    if not remedies:
        return
    asked = (answer(report, claim.finding) for claim in found if claim.finding.severity == "fail")
    first = next((each for each in asked if each is not None), remedies[0])
    left = len(remedies) - 1
    more = f" Then {plural(left, 'more change')}, in the report." if left else ""
    yield f"**Change first.** {prose(shorten(first.title, 300)).rstrip('.')}.{more}"
    if detail.code_lines and first.code.strip():
        yield _folded("Code to paste", block(first.code, "python", detail.code_lines))


def _missing(report: Report, detail: _Detail) -> Iterator[str]:
    items = report.not_measured
    if not items:
        return
    title = f"Not measured: {plural(len(items), 'item')}"
    if not detail.missing:
        yield title
        return
    lines = [
        f"- {prose(shorten(item.what, _NAME))} ({prose(shorten(item.where, _NAME))}): "
        f"{prose(shorten(item.why, 300))}"
        for item in items[: detail.missing]
    ]
    left = len(items) - len(lines)
    yield _folded(title, "\n".join([*lines, f"- and {left} more"] if left else lines))


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{one_line(title)}</summary>\n\n{inside}\n\n</details>"
