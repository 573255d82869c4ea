"""Text made fit to show: names written by others, plain ASCII numbers, and bounded length."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

# Control characters, line separators, bidirectional overrides and lone surrogates: they can hide
# text, move a cursor, reorder a line, or make a page that cannot be encoded. Tab and newline stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\ufffe\uffff]"
)
_ELLIPSIS = "…"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PLAIN = {"…": "...", "×": "x", "→": "->", "–": "-", "−": "-", "²": "^2", "·": "-", "±": "+/-"}
_RAISED = re.compile("⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_TYPED = (
    (re.compile(r"(?<=\d)x(?!\w|\.\w)"), "×"),  # 3.1x
    (re.compile(r"(?:(?<=\S) |^)x (?=\S)"), lambda m: m[0].replace("x", "×")),
    (re.compile(r" -> "), " → "),
    (re.compile(r"(?<=\w)\^(-?\d+)"), lambda m: m[1].translate(_SUPERSCRIPTS)),
    (
        re.compile(r"(?<![\w.])(\d(?:\.\d+)?)e([+-]?\d+)(?![\w.]*\w)"),
        lambda m: (f"{m[1]}×10" if m[1] != "1" else "10") + str(int(m[2])).translate(_SUPERSCRIPTS),
    ),
)


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


def typeset(text: str) -> str:
    """ASCII's ``3.1x`` and ``10^14`` as printed, ``3.1×`` and ``10¹⁴``; not between backticks."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for pattern, printed in _TYPED:
            parts[i] = pattern.sub(printed, parts[i])
    return "`".join(parts)


def short_path(path: str) -> str:
    """A path below the working folder as it is; of another its last two parts."""
    parts = PureWindowsPath(path).parts if "\\" in path else PurePosixPath(path).parts
    outside = path.startswith(("/", "\\", "../")) or path[1:2] == ":"
    return f"…/{'/'.join(parts[-2:])}" if outside and len(parts) > 2 else path


def encodable(text: str, encoding: str) -> str:
    """``text`` in letters that an encoding has: ``10¹⁴`` becomes ``10^14`` where it must."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = _RAISED.sub(lambda match: "^" + match.group().translate(_LOWERED), text)
        plain = "".join(_PLAIN.get(letter, letter) for letter in plain)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text


def opening(text: str, width: int) -> str:
    """``one_line(text)`` in at most ``width`` characters, cut between words."""
    text = one_line(text)
    if len(text) <= width:
        return text
    head, space, _ = text[: width - 1].rpartition(" ")
    return (head.rstrip(" ,;:.") if space else text[: width - 2]) + " " + _ELLIPSIS


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
