"""Phrases that several messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradaudit.errors import UnreadableFile


def text_of(error: BaseException) -> str:
    """An exception's text; empty where the user's own class raises instead of giving it."""
    try:
        return str(error)
    except Exception:
        return ""


def told(error: BaseException) -> str:
    """An exception's type and text, cut to one line of bearable length."""
    text = " ".join(text_of(error).split())
    text = text if len(text) <= 300 else text[:300].rstrip() + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    lines = text_of(error).strip().splitlines()
    return lines[0] if lines else "no message"


def printable(text: str, most: int = 1_500) -> str:
    """``text`` as one line that does nothing to a terminal: what is not printed is escaped.

    So is ``##[``, which commands the runner of a job wherever it stands in a line of its log.
    """
    text = " ".join(text.split()).replace("##[", r"#\x23[")
    text = text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def quoted(name: object, most: int = 60) -> str:
    """A name from a file in quotes, on one line, without control characters, and cut."""
    text = repr(name)
    return text if len(text) <= most else f"{text[:most]}...{text[0]}"


def listed(names: Sequence[str], shown: int = 3) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def did_you_mean(
    wanted: str, known: Iterable[str], otherwise: str = "", *, cutoff: float = 0.4
) -> str:
    """``did you mean 'nearest'?``, or what else to do where nothing is near enough."""
    near = difflib.get_close_matches(wanted, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise


def missing(path: Path) -> UnreadableFile:
    """The error for a file that does not exist, naming the nearest one that does."""
    folder = path.parent
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if near:
        next_step = f"did you mean {folder / near[0]}?"
    else:
        next_step = "check the path" if folder.is_dir() else f"there is no folder {folder}"
    return UnreadableFile(f"no such file: {path}", next_step=next_step)
