"""The options that may be configured, what each holds, and how its value is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradaudit.config.document import Table
from gradaudit.errors import UsageError

_TEXT, _WHOLE, _NUMBER, _SWITCH = "text", "a whole number", "a number", "true or false"
_NAMES = "a list of names"
# Long option names, and what each holds.
OPTIONS: Mapping[str, str] = {
    "data": _TEXT,
    "batch-size": _WHOLE,
    "target": _TEXT,
    "loss": _TEXT,
    "build": _TEXT,
    "optimizer": _TEXT,
    "lr": _NUMBER,
    "momentum": _NUMBER,
    "betas": "two numbers",
    "weight-decay": _NUMBER,
    "clip-norm": _NUMBER,
    "warmup": _WHOLE,
    "steps": _WHOLE,
    "precision": "fp32, fp16 or bf16",
    "recipe": _TEXT,
    "input": _TEXT,
    "state": "auto, fresh or trained",
    "reinit": _SWITCH,
    "output": _TEXT,
    "no-html": _SWITCH,
    "assets": _TEXT,
    "json": _TEXT,
    "sarif": _TEXT,
    "junit": _TEXT,
    "markdown": _TEXT,
    "annotations": _SWITCH,
    "baseline": _TEXT,
    "write-baseline": _TEXT,
    "fail-on": "fail, warn or never",
    "select": _NAMES,
    "ignore": _NAMES,
    "effort": "quick, standard or thorough",
    "seed": _WHOLE,
    "device": _TEXT,
    "threads": _WHOLE,
    "timeout": _NUMBER,
    "quiet": _SWITCH,
    "force": _SWITCH,
}
_FILES = (
    *("recipe", "output", "assets", "json", "sarif", "junit", "markdown"),
    *("baseline", "write-baseline"),
)
_SPECS = ("data", "loss", "build")
# What holds for the run as a whole, and so for no single model of it.
RUN_WIDE = (
    *("output", "no-html", "assets", "json", "sarif", "junit", "markdown", "annotations"),
    *("baseline", "write-baseline", "timeout", "quiet", "force"),
)


def value_of(key: str, table: Table) -> Any:
    """The value of an option, as the command line would have it.

    Relative paths become relative to the file's own folder; ``betas`` is a tuple of two floats,
    ``select`` and ``ignore`` of names, without their reasons. Raises ``UsageError`` for a value of
    the wrong kind.
    """
    value, wanted = table.values[key], OPTIONS[key]
    if wanted == _NAMES:
        return tuple(name for name, _ in entries(key, table))
    if not _fits(wanted, value):
        raise table.wrong(key, wanted, value)
    if wanted == "two numbers":
        return (float(value[0]), float(value[1]))
    if wanted == _NUMBER:
        return float(value)
    if key in _FILES or key in _SPECS:
        return beside(value, table.path.parent, spec=key in _SPECS)
    return value


def entries(key: str, table: Table) -> tuple[tuple[str, str], ...]:
    """Names with the reason given for each: ``"GA606"`` or ``{code = "GA606", reason = "..."}``."""
    value = table.values[key]
    found = []
    for item in value.split(",") if isinstance(value, str) else _list(key, table):
        if isinstance(item, str):
            found.append((item.strip(), ""))
        elif set(item) <= {"code", "reason"} and "code" in item and _texts(item.values()):
            found.append((item["code"].strip(), item.get("reason", "").strip()))
        else:
            raise table.wrong(key, '{code = "GA606", reason = "..."}', item)
    return tuple(entry for entry in found if entry[0])


def _list(key: str, table: Table) -> list[Any]:
    value = table.values[key]
    if not isinstance(value, list) or not all(isinstance(each, (str, dict)) for each in value):
        raise table.wrong(key, _NAMES, value)
    return value


def _texts(values: Any) -> bool:
    return all(isinstance(each, str) for each in values)


def texts(key: str, table: Table, expected: str) -> tuple[str, ...]:
    """A text or a list of texts, at least one."""
    value = table.values[key]
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not _texts(found) or not all(found):
        raise table.wrong(key, expected, value)
    return tuple(found)


def _fits(wanted: str, value: Any) -> bool:
    if wanted == _SWITCH:
        return isinstance(value, bool)
    if wanted == _WHOLE:
        return type(value) is int
    if wanted == _NUMBER:
        return type(value) in (int, float)
    if wanted == "two numbers":
        return isinstance(value, list) and len(value) == 2 and all(_fits(_NUMBER, v) for v in value)
    if not isinstance(value, str):
        return False
    return wanted == _TEXT or value in wanted.replace(" or ", ", ").split(", ")


def beside(value: str, folder: Path, *, spec: bool) -> str:
    """A path taken from ``folder``; a loss's name, ``package.module:name`` and ``-`` stay."""
    if not spec:
        return value if value == "-" else str(folder / value)
    home, colon, name = value.rpartition(":")
    if colon:
        return f"{folder / home}:{name}" if home.endswith(".py") else value
    return str(folder / value) if (folder / value).exists() else value


def model_spec(table: Table) -> str:
    """The model that a table names, from the working folder."""
    value = table.values["model"]
    if not isinstance(value, str) or not value.strip():
        raise table.wrong("model", "text: a file, or file.py:name", value)
    folder = table.path.parent
    home, colon, name = value.rpartition(":")
    if colon and not home.endswith(".py"):
        return value  # package.module:name
    path = folder / (home if colon else value)
    try:
        shown = os.path.relpath(path)
    except ValueError:  # on another drive
        shown = str(path)
    return f"{shown}:{name}" if colon else shown


def refuse_trust(table: Table) -> None:
    """Raise ``UsageError`` for ``trust``, which is given for one run and file."""
    if "trust" in table.values:
        raise UsageError(
            f"{table.place('trust')}: trust cannot be set in a file",
            next_step="give --trust on the command line, for the file you mean",
        )
