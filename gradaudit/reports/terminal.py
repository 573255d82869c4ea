"""The report on one screen of a terminal; plain text in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gradaudit.records import Finding, Report
from gradaudit.reports import change, page, views
from gradaudit.reports.numbers import TERMINAL, amount, percent
from gradaudit.reports.text import cut, one_line, plural, shorten

_COLOURS = {
    "fail": "red",
    "warn": "yellow",
    "pass": "green",
    "inconclusive": "blue",
    "note": "blue",
}
_SYMBOLS = {"fail": "✗", "warn": "▲", "pass": "✓", "inconclusive": "?", "note": "·"}
_ASCII = {"fail": "x", "warn": "!", "pass": "ok", "inconclusive": "?", "note": "-"}
_FINDINGS_SHOWN, _CODE_LINES = 4, 6
_CAUSE_LETTERS, _NOTE_LETTERS, _NOTES_SHOWN = 400, 220, 3
_WHAT_LETTERS = 60


def render(report: Report, console: Console) -> None:
    """Print verdict, cause, forecast, the worst findings and the first remedy.

    Fits 24 lines of 80 letters for findings of usual length. Names are never read as markup, and
    control characters in them are written out.
    """
    unicode = console.encoding.startswith("utf")
    symbols = _SYMBOLS if unicode else _ASCII
    lines = [*_verdict(report, symbols), *_findings(report, symbols, console.width)]
    lines += [*_remedy(report, console.width), *_proof(report, symbols), *_missing(report)]
    for line in lines:
        console.print(line if unicode else _ascii(line), highlight=False)


def _verdict(report: Report, symbols: dict[str, str]) -> list[Text]:
    colour = _COLOURS[report.verdict]
    head = Text(f"{symbols[report.verdict]} {page.VERDICTS[report.verdict].upper()}  ", colour)
    head.stylize("bold")
    head.append(shorten(report.cause, _CAUSE_LETTERS), "not bold default")
    forecast = str(report.forecast.outcome)
    if report.forecast.outcome != "unknown":
        forecast += f", {percent(report.forecast.confidence)} confident"
        if report.forecast.because:
            forecast += f" (because of {', '.join(map(one_line, report.forecast.because))})"
    lines = [head, Text(f"  Forecast: {forecast}")]
    unsampled = report.measurements.sample.source == "none"
    loud = [n for n in report.notes if unsampled or _is_loud(n)]
    loud = [n for n in loud if n.partition(": ")[2].rstrip(".") not in report.cause]
    for note in loud[:_NOTES_SHOWN]:
        lines.append(Text(f"  {symbols['warn']} {shorten(note, _NOTE_LETTERS)}", "yellow"))
    return lines


def _is_loud(note: str) -> bool:
    """Whether it changes what is judged: data made up, a recipe that the file gave."""
    return note.partition(":")[0].isupper() or note.startswith("Recipe:")


def _findings(report: Report, symbols: dict[str, str], width: int) -> list[Text]:
    ordered = [view.finding for group in views.groups(report) for view in group.shown]
    ordered.sort(key=lambda f: ("fail", "warn", "note").index(f.severity))
    shown = _one_per_rule(ordered)[:_FINDINGS_SHOWN]
    lines = [Text()] if shown else []
    for finding in shown:
        lines += _finding(finding, symbols, width)
    left = len(report.findings) - len(shown)
    if left > 0:
        lines.append(Text(f"  and {plural(left, 'more finding')} in the report", "dim"))
    return lines


def _one_per_rule(findings: list[Finding]) -> list[Finding]:
    first = {(f.severity, f.code): f for f in reversed(findings)}
    return [f for f in findings if first[f.severity, f.code] is f]


def _finding(finding: Finding, symbols: dict[str, str], width: int) -> list[Text]:
    line = Text(f"  {symbols[finding.severity]} ", _COLOURS[finding.severity])
    line.append(f"{one_line(finding.code)} {one_line(finding.name)}", "bold default")
    line.append(f"  {shorten(views.place(finding), max(20, width - len(line) - 4))}", "default")
    measured, limit = amount(finding.measured, TERMINAL), amount(finding.limit, TERMINAL)
    bounds = f" ({measured.interval})" if measured.interval else ""
    text = f"{measured.value}{bounds}, limit {limit.value} {one_line(measured.unit)}"
    return [line, Text(f"    {shorten(text, max(20, width - 4))}", "dim")]


def _remedy(report: Report, width: int) -> list[Text]:
    remedies = report.prescription.remedies if report.prescription else ()
    if not remedies:
        return []
    first = remedies[0]
    lines = [Text(), Text.assemble("  First: ", (shorten(first.title, 2 * width - 20), "bold"))]
    code = [cut(line, width - 6) for line in first.code.splitlines() if line.strip()]
    if len(code) <= _CODE_LINES:
        lines += [Text(f"    {line}", "cyan") for line in code]
    else:
        lines.append(Text(f"    {plural(len(code), 'line')} to paste, in the report", "dim"))
    if len(remedies) > 1:
        lines.append(Text(f"  then {plural(len(remedies) - 1, 'more change')}, in the report"))
    return lines


def _proof(report: Report, symbols: dict[str, str]) -> list[Text]:
    """Before and after the changes in one line, or that a search found nothing."""
    proof = report.prescription.proof if report.prescription else None
    if proof is None:
        none = change.not_found(report)
        return [Text(f"  {symbols['inconclusive']} {none}", "bold")] if none else []
    before, after = proof.before, proof.after
    scaled = change.target_scaled(report.prescription)
    line = Text(f"  {symbols['pass']} Proven: ", "bold green")
    line.append(
        f"{before.forecast.outcome} -> {after.forecast.outcome}, "
        f"loss {change.turned(before, TERMINAL)} -> {change.turned(after, TERMINAL)} "
        f"in {plural(proof.steps, 'step')}{' of the scaled target' if scaled else ''}",
        "not bold default",
    )
    return [line]


def _ascii(line: Text) -> Text:
    """The line without letters that an old terminal's encoding lacks."""
    return Text(line.plain.replace("…", "...").encode("ascii", "backslashreplace").decode())


def _missing(report: Report) -> list[Text]:
    if not report.not_measured:
        return []
    whats = (cut(one_line(item.what), _WHAT_LETTERS) for item in report.not_measured)
    names = list(dict.fromkeys(whats))
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [Text(), Text(f"  Not measured: {', '.join(names[:4])}{rest}", "dim")]
