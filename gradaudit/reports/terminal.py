"""The report on one screen of a terminal; plain text in a pipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradaudit.records import Audited, Report, Run
from gradaudit.reports import page, summary
from gradaudit.reports.summary import COLOURS, Look
from gradaudit.reports.text import encodable, one_line, plural

ROWS = 22  # of 24: the rest is for the file that was written and the prompt
_NAME_LETTERS, _LEAST = 28, 16
_MODELS_SHOWN = 14
_ORDER = {2: 0, 1: 1, 3: 2, 0: 3}  # exit codes, worst first
_COUNTED = (("fail", "fails", "fail"), ("warn", "warns", "warn"), ("pass", "passes", "pass"),
            ("inconclusive", "is inconclusive", "are inconclusive"),
            ("error", "could not be audited", "could not be audited"))  # fmt: skip


def render(report: Report, console: Console, fail_on: str = "fail") -> None:
    """Print verdict, cause, forecast, what changed, the worst findings and the first remedy.

    Takes at most ``ROWS`` lines of 80 letters unless names are very long: the more there is to
    say, the less of each. Names are never read as markup, control characters in them are written
    out, and words are never cut to fit a line. ``fail_on`` is from where on findings count.
    """
    look = Look.of(console)
    _print(_fitting(report, look, console, fail_on), console)


def render_run(run: Run, console: Console) -> None:
    """One model as :func:`render` does; of several a line each, the total, and the worst of all."""
    if len(run.audits) == 1:
        (only,) = run.audits
        if only.report is not None:
            render(only.report, console, only.fail_on)
        return
    look = Look.of(console)
    lines = [*_models(run.audits, look), *_total(run)]
    worst = _worst(run.audits)
    if worst is not None and worst.report is not None and worst.report.findings:
        held = worst.report.comparison
        aside = ""
        if held is not None and not held.regressions:
            aside = f" (known to {one_line(held.against)})"
        name = Text(f"Worst: {one_line(worst.name)}{aside}", "bold")
        room = max(8, ROWS - len(lines) - 2)
        lines += [Text(), name, *_most(worst.report, look, console, room)]
    _print(lines, console)


def _print(lines: Sequence[Text], console: Console) -> None:
    for line in map(inert, lines):
        fit = encodable(line.plain, console.encoding)
        for part in _wrapped(line if fit == line.plain else Text(fit), console.width):
            console.print(part, highlight=False, no_wrap=True, overflow="ignore", crop=False)


def inert(line: Text) -> Text:
    """The line without ``##[``, which commands the runner of a job wherever it stands."""
    return Text(line.plain.replace("##[", r"#\x23[")) if "##[" in line.plain else line


def _wrapped(line: Text, width: int) -> list[Text]:
    """The line broken between words; a word that is longer than a line runs over its edge."""
    indent = len(line.plain) - len(line.plain.lstrip())
    breaks, start, end = list[int](), 0, 0
    for word in re.finditer(r"\S+", line.plain):
        room = width - (indent if breaks else 0)
        # a line that starts with :: would command the runner of a job that prints it
        mute = not word.group().startswith("::")
        if cell_len(line.plain[start : word.end()]) > room and end > start and mute:
            start = word.start()
            breaks.append(start)
        end = word.end()
    parts = list(line.divide(breaks))
    for part in parts:
        part.rstrip()
    return [parts[0], *(Text(" " * indent) + part for part in parts[1:])]


def _fitting(report: Report, look: Look, console: Console, fail_on: str) -> list[Text]:
    """All that fits: findings, code and notes give way in turn."""
    for detail in summary.DETAILS:
        lines = list(summary.lines(report, look, detail, fail_on))
        if _height(lines, console) <= ROWS:
            break
    return lines


def _most(report: Report, look: Look, console: Console, rows: int) -> list[Text]:
    """What to do about one of several models."""
    for detail in summary.DETAILS:
        lines = [*summary.findings(report, look, detail), *summary.remedy(report, look, detail)]
        lines = [line for i, line in enumerate(lines) if i or line.plain]
        if _height(lines, console) <= rows:
            break
    return lines


def _height(lines: Sequence[Text], console: Console) -> int:
    return sum(len(_wrapped(line, console.width)) for line in lines)


def _models(audits: Sequence[Audited], look: Look) -> Iterator[Text]:
    """A line for each model, the worst ones where there are too many."""
    shown = list(audits)
    if len(audits) > _MODELS_SHOWN:
        worst = sorted(audits, key=lambda each: _ORDER[each.exit_code])[: _MODELS_SHOWN - 1]
        kept = {id(each) for each in worst}
        shown = [each for each in audits if id(each) in kept]
    names = [look.name(each.name, _NAME_LETTERS) for each in shown]
    widths = max(map(len, names)), max(len(_verdict(each)) for each in shown)
    for each, name in zip(shown, names, strict=True):
        yield _model(each, name, widths, look)
    if left := len(audits) - len(shown):
        yield Text(f"  and {plural(left, 'more model')}, none of them worse", "dim")


def _model(each: Audited, name: str, widths: tuple[int, int], look: Look) -> Text:
    state = each.verdict or "error"
    line = Text(f"{look.symbols[state]:{look.mark}} {name:{widths[0]}}  ", COLOURS[state])
    line.append(f"{_verdict(each):{widths[1]}}  ", "bold")
    room = max(_LEAST, look.width - len(line) - 1)
    said = each.error if each.report is None else f"{_changed(each.report)}{each.report.cause}"
    line.append(look.fit(said, room), "not bold default")
    return line


def _verdict(each: Audited) -> str:
    return page.VERDICTS[each.verdict] if each.verdict else "Error"


def _changed(report: Report) -> str:
    """How much is new or worse since the baseline, where there is one."""
    if report.comparison is None:
        return ""
    count = len(report.comparison.regressions)
    if count:
        return f"({count} new or worse) "
    return "(known) " if report.verdict in ("fail", "warn") else "(nothing new) "


def _total(run: Run) -> Iterator[Text]:
    counts: Counter[str] = Counter(each.verdict or "error" for each in run.audits)
    said = [
        f"{counts[state]} {one if counts[state] == 1 else many}"
        for state, one, many in _COUNTED
        if counts[state]
    ]
    held = {report.comparison.against for report in run.reports if report.comparison}
    against = f", held against {', '.join(map(one_line, sorted(held)))}" if held else ""
    yield Text(f"{plural(len(run.audits), 'model')}: {', '.join(said)}{against}", "bold")


def _worst(audits: Sequence[Audited]) -> Audited | None:
    """The first of those with the worst exit code that have a report."""
    order = ("fail", "warn", "inconclusive", "pass")
    ranked = [
        (_ORDER[each.exit_code], order.index(each.verdict), i)
        for i, each in enumerate(audits)
        if each.verdict is not None
    ]
    return audits[min(ranked)[-1]] if ranked else None
