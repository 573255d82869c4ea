"""Names written by others, made safe to show: visible, and of bounded length."""

from __future__ import annotations

import re

# Control characters, line separators, bidirectional overrides and lone surrogates: they can hide
# text, move a cursor, reorder a line, or make a page that cannot be encoded. Tab and newline stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\ufffe\uffff]"
)
_ELLIPSIS = "…"


def clean(text: str) -> str:
    r"""``text`` with what cannot be seen written out: the escape character becomes ``\x1b``."""
    return _UNSAFE.sub(lambda match: _escape(ord(match.group())), text)


def one_line(text: str) -> str:
    """:func:`clean`, with runs of white space as one space."""
    return " ".join(clean(text).split())


def shorten(text: str, width: int) -> str:
    """``one_line(text)`` in at most ``width`` characters, cut in the middle.

    The end of a module path says the most, so it keeps two thirds of the room.
    """
    text = one_line(text)
    if len(text) <= width:
        return text
    head = (width - 1) // 3
    return text[:head] + _ELLIPSIS + text[len(text) - (width - 1 - head) :]


def cut(line: str, width: int) -> str:
    """A line of code in at most ``width`` characters, its indentation kept."""
    line = clean(line).expandtabs(4)
    return line if len(line) <= width else line[: width - 1] + _ELLIPSIS


def plural(count: int, noun: str) -> str:
    """``1 stage``, ``30 stages``, ``4 batches``."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "ch", "x")) else "s"
    return f"{count:,} {noun}{ending}"


def _escape(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
