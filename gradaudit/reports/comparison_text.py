"""Two runs side by side, for people at a terminal; plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from gradaudit.records import Compared, Comparison, Difference
from gradaudit.reports import comparison_words as words
from gradaudit.reports.terminal import inert
from gradaudit.reports.text import one_line, plural

_COLOURS = {"new": "red", "worse": "red", "better": "green", "fixed": "green", "unchanged": "dim"}
_SYMBOLS = {"new": "+", "worse": "✗", "better": "✓", "fixed": "✓", "unchanged": "·"}
_ASCII = {"new": "+", "worse": "x", "better": "ok", "fixed": "ok", "unchanged": "-"}
_ENDS = {0: ("✓", "green"), 1: ("✗", "red"), 2: ("✗", "red"), 3: ("?", "blue")}
_ASCII_ENDS = {0: "ok", 1: "x", 2: "x", 3: "?"}
_SHOWN = 20  # rows of a kind; the JSON has them all


def render(difference: Difference, console: Console, *, everything: bool = False) -> None:
    """Print what is new, worse, better and fixed; with ``everything`` also what is unchanged."""
    unicode = console.encoding.startswith("utf")
    for line in _lines(difference, _SYMBOLS if unicode else _ASCII, everything, unicode):
        shown = inert(line if unicode else _ascii(line))
        console.print(shown, highlight=False, soft_wrap=not console.is_terminal)


def _lines(
    difference: Difference, symbols: dict[str, str], everything: bool, unicode: bool
) -> Iterator[Text]:
    yield Text(f"{one_line(difference.old)} -> {one_line(difference.new)}")
    for compared in difference.models:
        yield Text()
        yield _head(compared, unicode)
        if compared.comparison is not None:
            yield from _changes(compared.comparison, symbols, everything)
    if difference.notes:
        yield Text()
    for note in difference.notes:
        yield Text(f"Note: {one_line(note)}", "yellow")


def _head(compared: Compared, unicode: bool) -> Text:
    symbol, colour = _ENDS[compared.exit_code]
    symbol = symbol if unicode else _ASCII_ENDS[compared.exit_code]
    line = Text(f"{symbol} {one_line(compared.name)}", f"bold {colour}")
    line.append(f"  {words.verdicts(compared)}", "default not bold")
    told = compared.error or (words.headline(compared.comparison) if compared.comparison else "")
    line.append(f"; {one_line(told)}", "default not bold")
    return line


def _changes(comparison: Comparison, symbols: dict[str, str], everything: bool) -> Iterator[Text]:
    kept = words.unchanged(comparison)
    yield from _rows(comparison.regressions, symbols, everything)
    yield from _rows(words.improvements(comparison), symbols, everything)
    if everything:
        yield from _rows(kept, symbols, everything)
    elif kept:
        yield Text(f"  {symbols['unchanged']} {len(kept)} unchanged (--all lists them)", "dim")
    for sentence in comparison.stale:
        yield Text(f"  Note: {one_line(sentence)}", "yellow")


def _rows(rows: Sequence[words.Row], symbols: dict[str, str], everything: bool) -> Iterator[Text]:
    shown = rows if everything else rows[:_SHOWN]
    for row in shown:
        line = Text(f"  {symbols[row.change]} {row.change:9} ", _COLOURS[row.change])
        line.append(words.subject(row), "bold default")
        held = words.severity(row)
        line.append(f" [{held}]" if held else "", "default")
        yield line
        yield Text(f"      {one_line(row.why)}", "default")
    if len(rows) > len(shown):
        yield Text(
            f"    and {plural(len(rows) - len(shown), 'more row')} (--all lists them)", "dim"
        )


def _ascii(line: Text) -> Text:
    return Text(line.plain.replace("…", "...").encode("ascii", "backslashreplace").decode())
