"""Options from ``[tool.gradaudit]`` of the nearest ``pyproject.toml``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradaudit.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    "fail-on": "fail, warn or never",
    "baseline": _TEXT,
    "write-baseline": _TEXT,
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
    "recipe", "output", "assets", "json", "sarif", "junit", "markdown", "baseline",
    "write-baseline",
)  # fmt: skip
_SPECS = ("data", "loss", "build")


def load_config(start: Path) -> tuple[dict[str, Any], Path | None]:
    """Options in force at ``start``, and the file they stand in.

    The nearest ``pyproject.toml`` at or above ``start`` that has the table counts. Keys are long
    option names; the returned ones have ``_`` for ``-``. Relative paths become relative to the
    file's own folder; ``betas`` is a tuple of two floats, ``select`` and ``ignore`` of names.
    Raises ``UsageError`` for malformed TOML, an unknown key (with the nearest known one), a value
    of the wrong kind, and ``trust``, which only the command line may give.
    """
    start = start.resolve()
    for folder in [start, *start.parents]:
        path = folder / "pyproject.toml"
        table = _table(path) if path.is_file() else None
        if table is not None:
            return {
                _known(key, path).replace("-", "_"): _value(key, value, path)
                for key, value in table.items()
            }, path
    return {}, None


def _table(path: Path) -> Mapping[str, Any] | None:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read", expected="TOML", found=text) from None
    tools = found.get("tool", {})
    table = tools.get("gradaudit") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{path}: tool.gradaudit is not a table", expected="[tool.gradaudit]")
    return table


def _known(key: str, path: Path) -> str:
    if key == "trust":
        raise UsageError(
            f"{path}: trust cannot be set in [tool.gradaudit]",
            next_step="give --trust on the command line, for the file you mean",
        )
    if key in OPTIONS:
        return key
    near = difflib.get_close_matches(key.replace("_", "-"), OPTIONS, n=1, cutoff=0.4)
    raise UsageError(
        f"{path}: unknown key {key!r} in [tool.gradaudit]",
        next_step=f"did you mean {near[0]!r}?" if near else "the keys are the long option names",
    )


def _value(key: str, value: Any, path: Path) -> Any:
    wanted = OPTIONS[key]
    if not _fits(wanted, value):
        raise UsageError(
            f"{path}: {key} in [tool.gradaudit] has a wrong value",
            expected=wanted,
            found=repr(value),
        )
    if wanted == _NAMES:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip() for name in names if name.strip())
    if wanted == "two numbers":
        return (float(value[0]), float(value[1]))
    if wanted == _NUMBER:
        return float(value)
    if key in _FILES or key in _SPECS:
        return _beside(value, path.parent, spec=key in _SPECS)
    return value


def _fits(wanted: str, value: Any) -> bool:
    if wanted == _SWITCH:
        return isinstance(value, bool)
    if wanted == _WHOLE:
        return type(value) is int
    if wanted == _NUMBER:
        return type(value) in (int, float)
    if wanted == "two numbers":
        return isinstance(value, list) and len(value) == 2 and all(_fits(_NUMBER, v) for v in value)
    if wanted == _NAMES and isinstance(value, list):
        return all(isinstance(name, str) for name in value)
    if not isinstance(value, str):
        return False
    return wanted in (_TEXT, _NAMES) or value in wanted.replace(" or ", ", ").split(", ")


def _beside(value: str, folder: Path, *, spec: bool) -> str:
    """A path taken from ``folder``; a loss's name, ``package.module:name`` and ``-`` stay."""
    if not spec:
        return value if value == "-" else str(folder / value)
    home, colon, name = value.rpartition(":")
    if colon:
        return f"{folder / home}:{name}" if home.endswith(".py") else value
    return str(folder / value) if (folder / value).exists() else value
