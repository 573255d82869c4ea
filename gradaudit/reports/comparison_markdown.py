"""Two runs side by side in Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradaudit.records import Compared, Comparison, Difference
from gradaudit.reports import comparison_words as words
from gradaudit.reports.markdown_text import code, prose
from gradaudit.reports.text import plural, shorten

MARKER = "<!-- gradaudit diff -->"  # the first line: by it a comment is known for ours
MOST = 60_000  # bytes; GitHub takes 65,536 letters
_SYMBOLS = {"new": "🆕", "worse": "❌", "better": "⬆️", "fixed": "✅", "unchanged": "➖"}
_ENDS = {0: "✅", 1: "❌", 2: "🛑", 3: "❔"}
_ROWS = (100, 20, 3, 0)  # of a table, fewer until the whole is short enough
_WHY = 400  # letters


def render(difference: Difference) -> str:
    """A heading and a table for each model, worst changes first; at most 60 kB."""
    for rows in _ROWS:
        text = _whole(difference, difference.models, rows)
        if len(text.encode("utf-8", "backslashreplace")) <= MOST:
            return text
    return _whole(difference, (), 0)


def _whole(difference: Difference, models: Sequence[Compared], rows: int) -> str:
    symbol = _ENDS[difference.exit_code]
    parts = [
        MARKER,
        f"## {symbol} gradaudit: {words.ending(difference)}",
        f"{code(difference.old)} → {code(difference.new)}",
        *(part for each in models for part in _section(each, rows)),
    ]
    if len(models) < len(difference.models):
        parts.append(f"{plural(len(difference.models), 'model')}; the JSON tells of each.")
    parts += [f"> {prose(shorten(note, _WHY))}" for note in difference.notes[:20]]
    return "\n\n".join([*parts, f"<sub>gradaudit {prose(difference.version)}</sub>"]) + "\n"


def _section(compared: Compared, rows: int) -> Iterator[str]:
    yield f"### {_ENDS[compared.exit_code]} {code(compared.name)}: {words.verdicts(compared)}"
    if compared.comparison is None:
        yield f"**Cannot run.** {prose(shorten(compared.error, _WHY))}"
        return
    headline = words.headline(compared.comparison)
    yield f"{headline[:1].upper()}{headline[1:]}."
    yield from _tables(compared.comparison, rows)
    yield from (f"> {prose(shorten(sentence, _WHY))}" for sentence in compared.comparison.stale)


def _tables(comparison: Comparison, rows: int) -> Iterator[str]:
    changed = [*comparison.regressions, *words.improvements(comparison)]
    if changed and rows:
        yield _table(changed, rows)
    kept = words.unchanged(comparison)
    if kept and rows:
        summary = f"<summary>{len(kept)} unchanged</summary>"
        yield f"<details>{summary}\n\n{_table(kept, rows)}\n\n</details>"


def _table(changes: Sequence[words.Row], rows: int) -> str:
    lines = ["| | what | change |", "|---|---|---|"]
    for row in changes[:rows]:
        held = words.severity(row)
        what = prose(shorten(words.subject(row), _WHY)) + (f" ({held})" if held else "")
        told = prose(shorten(row.why, _WHY))
        lines.append(f"| {_SYMBOLS[row.change]} {row.change} | {what} | {told} |")
    left = len(changes) - rows
    return "\n".join(lines) + (f"\n\nand {plural(left, 'more change')}" if left > 0 else "")
