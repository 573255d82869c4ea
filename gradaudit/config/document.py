"""A configuration file as it was read: its tables, and the line that each key stands in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradaudit.errors import UsageError
from gradaudit.json_object import levels
from gradaudit.telling import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST = 10_000_000  # bytes
_DEEPEST = 64  # tables and lists in each other
_LARGEST = 2**63 - 1
_DOTTED = re.compile(r"""(?m)^[ \t\[]*(?:[\w"'-]+[ \t]*\.[ \t]*){64}""")

Keys = tuple[str | int, ...]  # a number counts the tables of an array


@dataclass(frozen=True)
class Table:
    """One table of a file, and where it stands in it."""

    path: Path
    values: Mapping[str, Any]
    keys: Keys = ()
    lines: Mapping[Keys, int] = field(default_factory=dict)

    def below(self, *keys: str | int) -> Table:
        """The table under a key; raises ``UsageError`` where that is none."""
        found: Any = self.values
        for key in keys:
            found = found[key]
        inner = Table(self.path, found, (*self.keys, *keys), self.lines)
        if not isinstance(found, Mapping):
            raise UsageError(
                f"{inner.place()}: {'.'.join(str(k) for k in inner.keys)} is not a table",
                expected=f"[{inner.label.strip('[]')}]",
                found=repr(found),
            )
        return inner

    @property
    def label(self) -> str:
        """The table's header, as people write it; nothing at the top of a file of its own."""
        names = ".".join(key for key in self.keys if isinstance(key, str))
        if not names:
            return ""
        return f"[[{names}]]" if isinstance(self.keys[-1], int) else f"[{names}]"

    def line(self, *keys: str | int) -> int | None:
        """The line of a key in this table, else of the nearest table or key that holds it."""
        wanted = (*self.keys, *keys)
        for end in range(len(wanted), 0, -1):
            if wanted[:end] in self.lines:
                return self.lines[wanted[:end]]
        return None

    def place(self, *keys: str | int) -> str:
        """``path/to/pyproject.toml:12``."""
        line = self.line(*keys)
        return f"{self.path}:{line}" if line else str(self.path)

    def origin(self, *keys: str | int) -> str:
        """The same, as seen from the working folder."""
        line = self.line(*keys)
        return f"{near(self.path)}:{line}" if line else near(self.path)

    def known(self, key: str, choices: Iterable[str], otherwise: str) -> str:
        """``key`` if it is one of the choices; raises ``UsageError`` naming the nearest."""
        choices = list(choices)
        if key in choices:
            return key
        raise UsageError(
            f"{self.place(key)}: unknown key {key!r}{self._within}",
            next_step=did_you_mean(key.replace("_", "-"), choices, otherwise),
        )

    def wrong(self, key: str, expected: str, found: object) -> UsageError:
        """What to raise for a value of the wrong kind."""
        return UsageError(
            f"{self.place(key)}: {key}{self._within} has a wrong value",
            expected=expected,
            found=repr(found),
        )

    @property
    def _within(self) -> str:
        return f" in {self.label}" if self.label else ""


def near(path: Path) -> str:
    """A path as seen from the working folder, where it lies within or above that; else its name."""
    try:
        shown = Path(os.path.relpath(path)).as_posix()
    except ValueError:  # on another drive
        return path.name
    return (
        shown if shown.replace("../", "") == path.name or not shown.startswith("..") else path.name
    )


def read_document(path: Path, *, table: tuple[str, ...] = ()) -> Table | None:
    """The table of that name in a TOML file; ``None`` where there is none.

    Raises ``UsageError`` for what is no TOML, or no table.
    """
    try:
        text = _text(path)
        found: Any = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(path) from None
    except (ValueError, OSError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UsageError(f"{path} cannot be read", expected="TOML", found=reason) from None
    _check(path, found)
    document = Table(path, found, (), dict(_lines(text)))
    for key in table[:-1]:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or (table and table[-1] not in found):
        return None
    return document.below(*table)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise UsageError(
            f"{path} is larger than any configuration", expected=f"at most {_MOST:,} bytes"
        )
    text = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    if _DOTTED.search(text):  # the parser takes a minute for a name of 40,000 parts
        raise _too_deep(path)
    return text


def _check(path: Path, found: Any) -> None:
    """Raise ``UsageError`` for tables too deep, and numbers that TOML leaves to each reader."""
    try:
        for level in levels(found, _DEEPEST):
            if any(isinstance(each, int) and not -_LARGEST <= each <= _LARGEST for each in level):
                raise UsageError(f"{path} cannot be read", expected="whole numbers of 64 bits")
    except RecursionError:
        raise _too_deep(path) from None


def _too_deep(path: Path) -> UsageError:
    return UsageError(
        f"{path} is nested too deep", expected=f"at most {_DEEPEST} tables in each other"
    )


def _lines(text: str) -> Iterator[tuple[Keys, int]]:
    """Where keys and tables start: read line by line, so that it costs no parser of our own.

    A key inside an inline table or a list has no line of its own.
    """
    header: Keys = ()
    counts: dict[Keys, int] = {}
    quoted = ""  # the mark of the multi-line text that is open
    for number, line in enumerate(text.splitlines(), 1):
        if quoted:
            quoted = "" if line.count(quoted) % 2 else quoted
            continue
        stripped = line.strip()
        if stripped.startswith("["):
            names = _names(stripped.partition("#")[0], header=True)
            if names:
                header = _placed(names, counts, array=stripped.startswith("[["))
                yield header, number
        elif "=" in stripped and not stripped.startswith("#"):
            names = _names(stripped.partition("=")[0])
            yield from (((*header, *names[: end + 1]), number) for end in range(len(names)))
        quoted = next((mark for mark in ('"""', "'" * 3) if line.count(mark) % 2), "")


def _names(text: str, *, header: bool = False) -> tuple[str, ...]:
    """The dotted key in front of a value, or of a header; nothing where the text is neither."""
    try:
        found: Any = tomllib.loads(text if header else f"{text} = 0")
    except ValueError:
        return ()
    names = []
    while isinstance(found, (dict, list)) and found:
        if isinstance(found, list):
            found = found[0]
            continue
        ((name, found),) = found.items()
        names.append(name)
    return tuple(names)


def _placed(names: tuple[str, ...], counts: dict[Keys, int], *, array: bool) -> Keys:
    """A header's names with the number of each table of an array that they pass through."""
    keys: Keys = ()
    for at, name in enumerate(names):
        keys = (*keys, name)
        if array and at == len(names) - 1:
            counts[keys] = counts.get(keys, -1) + 1
        if keys in counts:
            keys = (*keys, counts[keys])
    return keys
