"""Text written by others, in Markdown: it stays text, whatever it holds.

GitHub reads more than CommonMark: bare addresses, ``@names``, ``#numbers``, ``$formulas$`` and
``~~strokes~~`` mean something in running text, and so they are taken apart here.
"""

from __future__ import annotations

import re

from gradaudit.reports.text import clean, cut, one_line, shorten

_SPAN = re.compile(r"`([^`]*)`")
_MARKS = re.compile(r"([\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_]))")  # within a word, _ is no mark
_RISKY = re.compile(r"[`|\\]")  # in a code span, within a table
_BREAK = "&#8203;"  # a space of no width: a mention ends at it


def prose(text: str) -> str:
    """A sentence for people; what stands between backticks in it is code, all else is text."""
    parts = _SPAN.split(one_line(text))
    return "".join(code(part) if i % 2 else _plain(part) for i, part in enumerate(parts))


def code(name: str, letters: int = 120) -> str:
    """A name in a code span, on one line, also within a table."""
    name = shorten(name, letters)
    if not name:
        return ""
    if not _RISKY.search(name):
        return f"`{name}`"
    return f"<code>{''.join(_entity(c) for c in name)}</code>"


def block(text: str, language: str, lines: int, width: int = 200) -> str:
    """Code to copy between fences longer than any in it, and cut after so many lines."""
    rows = [cut(row, width) for row in clean(text).rstrip().split("\n")]
    if len(rows) > lines:
        rows = [*rows[:lines], f"# {len(rows) - lines} more lines, in the report"]
    longest = max((len(run) for row in rows for run in re.findall("`+", row)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *rows, fence])


def _plain(text: str) -> str:
    text = re.sub(r"#(?=\d)", "#\u200b", text)  # before there are entities, which look alike
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKS.sub(r"\\\1", text).replace("|", "&#124;").replace("://", "&#58;//")
    text = text.replace("@", f"@{_BREAK}").replace("#\u200b", f"#{_BREAK}")
    return re.sub(r"(?i)\bwww\.", "www&#46;", text)


def _entity(letter: str) -> str:
    return letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};"
