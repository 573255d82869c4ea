"""The lines a terminal shows of one report: verdict, changes, findings, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from gradaudit.records import SEVERITIES, Finding, FindingChange, MetricChange, Report
from gradaudit.reports import change, page, views
from gradaudit.reports.gate_words import gate
from gradaudit.reports.numbers import PAGE, TERMINAL, Style, amount, percent, phrase
from gradaudit.reports.text import cut, one_line, opening, plural, shorten, typeset

COLOURS = {
    "fail": "red",
    "warn": "yellow",
    "pass": "green",
    "inconclusive": "blue",
    "note": "blue",
    "error": "red",
}
_SYMBOLS = {"fail": "✗", "warn": "▲", "pass": "✓", "inconclusive": "?", "note": "·", "error": "✗"}
_ASCII = {"fail": "x", "warn": "!", "pass": "ok", "inconclusive": "?", "note": "-", "error": "x"}
_CAUSE_LETTERS, _NOTE_LETTERS = 400, 220
_WHAT_LETTERS, _WHATS_SHOWN = 60, 4
_CHANGES_SHOWN = 3


@dataclass(frozen=True)
class Look:
    """What a console can show."""

    symbols: Mapping[str, str]
    unicode: bool
    width: int

    @classmethod
    def of(cls, console: Console) -> Look:
        """Symbols and typography where the encoding has them."""
        unicode = console.encoding.lower().startswith("utf")
        return cls(_SYMBOLS if unicode else _ASCII, unicode, console.width)

    @property
    def style(self) -> Style:
        """How numbers are written."""
        return PAGE if self.unicode else TERMINAL

    @property
    def mark(self) -> int:
        """Letters of the widest symbol."""
        return max(map(len, self.symbols.values()))

    def fit(self, text: str, room: int) -> str:
        """The opening of ``text``, typeset, in ``room`` letters, where an ellipsis may take 3."""
        return opening(self.typeset(text), room - 2 * (not self.unicode))

    def name(self, text: str, room: int) -> str:
        """A name in ``room`` letters, cut in its middle."""
        return shorten(text, room - 2 * (not self.unicode))

    def typeset(self, text: str) -> str:
        """``3.1x`` as ``3.1×`` where there is a ×."""
        return typeset(text) if self.unicode else text


@dataclass(frozen=True)
class Detail:
    """How much is shown of what could fill the screen."""

    findings: int
    code: int  # lines
    notes: int
    gaps: bool = True


# Tried in this order until all of it fits.
DETAILS = (
    Detail(4, 6, 3),
    Detail(3, 6, 3),
    Detail(2, 6, 2),
    Detail(2, 3, 2),
    Detail(1, 0, 1),
    Detail(1, 0, 0, gaps=False),
)


def lines(report: Report, look: Look, detail: Detail, fail_on: str = "fail") -> Iterator[Text]:
    """Everything, in the order in which a person asks for it."""
    yield from _verdict(report, look, detail)
    yield from _comparison(report, look, fail_on)
    yield from findings(report, look, detail)
    yield from remedy(report, look, detail)
    yield from _proof(report, look)
    if detail.gaps:
        yield from _missing(report)


def _verdict(report: Report, look: Look, detail: Detail) -> Iterator[Text]:
    colour = COLOURS[report.verdict]
    head = Text(f"{look.symbols[report.verdict]} {page.VERDICTS[report.verdict].upper()}  ", colour)
    head.stylize("bold")
    head.append(look.fit(report.cause, _CAUSE_LETTERS), "not bold default")
    yield head
    forecast = str(report.forecast.outcome)
    if report.forecast.outcome != "unknown":
        forecast += f", {percent(report.forecast.confidence)} confident"
        if report.forecast.because:
            forecast += f" (because of {', '.join(map(one_line, report.forecast.because))})"
    yield Text(f"  Forecast: {forecast}")
    unsampled = report.measurements.sample.source == "none"
    loud = [n for n in report.notes if unsampled or _is_loud(n)]
    loud = [n for n in loud if n.partition(": ")[2].rstrip(".") not in report.cause]
    for note in loud[: detail.notes]:
        said = look.fit(note, _NOTE_LETTERS)
        yield Text(f"  {look.symbols['warn']} {said}", "yellow")


def _is_loud(note: str) -> bool:
    """Whether it changes what is judged: data made up, a recipe that the file gave."""
    return note.partition(":")[0].isupper() or note.startswith("Recipe:")


def _comparison(report: Report, look: Look, fail_on: str) -> Iterator[Text]:
    """What the gate makes of what is new, worse, fixed and unchanged, and what is past by name."""
    compared, ends = report.comparison, gate(report, fail_on)
    if ends is None:
        return
    yield Text()
    said = f"{ends.before}{look.name(ends.against, 40)}{ends.after}"
    yield Text(f"  {look.symbols[ends.state]} {said}", f"bold {COLOURS[ends.state]}")
    if compared is None:
        return
    past = compared.regressions
    for each in past[:_CHANGES_SHOWN]:
        yield _regression(each, look)
    if len(past) > _CHANGES_SHOWN:
        yield Text(f"    and {len(past) - _CHANGES_SHOWN} more in the report", "dim")
    for why in compared.stale[:1]:
        yield Text(f"  {look.symbols['warn']} Stale baseline: {look.fit(why, 140)}", "yellow")


def _regression(each: FindingChange | MetricChange, look: Look) -> Text:
    if isinstance(each, FindingChange):
        known = each.known
        line = Text(f"  {look.symbols[known.severity]} ", COLOURS[known.severity])
        line.append(f"{each.change:6}", "bold")
        line.append(f"{one_line(known.code)} {one_line(known.name)}  ", "default")
        return line.append(look.name(known.place, max(20, look.width - len(line) - 1)), "default")
    line = Text(f"  {look.symbols['fail']} ", COLOURS["fail"])
    line.append(f"{each.change:6}", "bold")
    line.append(one_line(each.title or each.metric.replace("_", " ")), "default")
    if each.before is not None and each.now is not None:
        first, last = (amount(e, look.style).value for e in (each.before, each.now))
        line.append(f": {first} {'→' if look.unicode else '->'} {last}", "default")
    if each.place != "the model":
        place = look.name(each.place, max(20, look.width - len(line) - 5))
        line.append(f" at {place}", "default")
    return line


def findings(report: Report, look: Look, detail: Detail) -> Iterator[Text]:
    """The worst, one a rule."""
    ordered = [view.finding for group in views.groups(report) for view in group.shown]
    ordered.sort(key=lambda f: SEVERITIES.index(f.severity))
    shown = _one_per_rule(ordered)[: detail.findings]
    if shown:
        yield Text()
    for finding in shown:
        yield from _finding(finding, look)
    left = len(report.findings) - len(shown)
    if left > 0:
        yield Text(f"  and {plural(left, 'more finding')} in the report", "dim")


def _one_per_rule(findings: list[Finding]) -> list[Finding]:
    first = {(f.severity, f.code): f for f in reversed(findings)}
    return [f for f in findings if first[f.severity, f.code] is f]


def _finding(finding: Finding, look: Look) -> Iterator[Text]:
    line = Text(f"  {look.symbols[finding.severity]} ", COLOURS[finding.severity])
    line.append(f"{one_line(finding.code)} {one_line(finding.name)}", "bold default")
    place = look.name(views.place(finding), max(20, look.width - len(line) - 4))
    yield line.append(f"  {place}", "default")
    text = phrase(finding.measured, finding.limit, look.style)
    yield Text(f"    {look.fit(text, max(20, look.width - 4))}", "dim")


def remedy(report: Report, look: Look, detail: Detail) -> Iterator[Text]:
    """The first change, its code where that is short, and how many more there are."""
    remedies = report.prescription.remedies if report.prescription else ()
    if not remedies:
        return
    first = remedies[0]
    yield Text()
    yield Text.assemble("  First: ", (look.fit(first.title, 2 * look.width - 20), "bold"))
    code = [cut(line, look.width - 6) for line in first.code.splitlines() if line.strip()]
    if len(code) <= detail.code:
        yield from (Text(f"    {line}", "cyan") for line in code)
    else:
        yield Text(f"    {plural(len(code), 'line')} to paste, in the report", "dim")
    if len(remedies) > 1:
        yield Text(f"  then {plural(len(remedies) - 1, 'more change')}, in the report")


def _proof(report: Report, look: Look) -> Iterator[Text]:
    """Before and after the changes in one line, or that a search found nothing."""
    proof = report.prescription.proof if report.prescription else None
    if proof is None:
        none = change.not_found(report)
        if none:
            yield Text(f"  {look.symbols['inconclusive']} {none}", "bold")
        return
    before, after = proof.before, proof.after
    scaled = change.target_scaled(report.prescription)
    line = Text(f"  {look.symbols['pass']} Proven: ", "bold green")
    said = (
        f"{before.forecast.outcome} -> {after.forecast.outcome}, "
        f"loss {change.turned(before, look.style)} -> {change.turned(after, look.style)} "
        f"in {plural(proof.steps, 'step')}{' of the scaled target' if scaled else ''}"
    )
    yield line.append(look.typeset(said), "not bold default")


def _missing(report: Report) -> Iterator[Text]:
    if not report.not_measured:
        return
    whats = (opening(item.what, _WHAT_LETTERS) for item in report.not_measured)
    names = list(dict.fromkeys(whats))
    left = len(names) - _WHATS_SHOWN
    rest = f" and {left} more" if left > 0 else ""
    yield Text()
    yield Text(f"  Not measured: {', '.join(names[:_WHATS_SHOWN])}{rest}", "dim")
