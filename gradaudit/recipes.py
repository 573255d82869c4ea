"""Recipes from files and from plain values, and one laid over another; needs no torch."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradaudit.errors import UnreadableFile, UsageError
from gradaudit.records import Recipe
from gradaudit.telling import did_you_mean, missing, told

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = tuple(f.name for f in dataclasses.fields(Recipe))
_LIMIT = 1 << 14  # bytes; TOML's dotted keys take the square of their number
_ALIASES = {"warmup_steps": "warmup", "learning_rate": "lr"}
_CHOICES = {
    "precision": ("fp32", "fp16", "bf16"),
    "schedule": ("constant", "linear", "cosine"),
}


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML or JSON file; its keys are those of :class:`Recipe`, ``-`` for ``_``.

    Raises ``UnreadableFile`` for a missing or malformed file, ``UsageError`` for an unknown key
    (with the nearest known one) or a value of the wrong kind.
    """
    if not path.is_file():
        raise missing(path)
    if path.stat().st_size > _LIMIT:
        raise UnreadableFile(f"{path} is no recipe", expected=f"at most {_LIMIT:,} bytes")
    text = path.read_bytes()
    try:
        found = json.loads(text) if text.lstrip()[:1] == b"{" else tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{path} is neither TOML nor JSON", found=told(error), next_step="check its syntax"
        ) from None
    return recipe_from(found, str(path))


def recipe_from(found: Mapping[str, Any], where: str) -> Recipe:
    """A checked :class:`Recipe` out of plain values; ``where`` names their origin in errors."""
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        name = _ALIASES.get(name, name)
        if name not in _KEYS:
            raise UsageError(
                f"{where} has an unknown key {key!r}",
                expected="one of " + ", ".join(_KEYS),
                next_step=did_you_mean(name, _KEYS),
            )
        if value is not None:
            values[name] = _checked(name, value, where)
    return Recipe(**values)


def _checked(name: str, value: Any, where: str) -> Any:
    if name == "optimizer":
        if isinstance(value, str):
            return value.lower()
        raise _wrong(where, name, "a name such as 'adam'", value)
    if name in _CHOICES:
        if value in _CHOICES[name]:
            return value
        raise _wrong(where, name, " or ".join(_CHOICES[name]), value)
    if name == "betas":
        if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_in_unit, value)):
            return (float(value[0]), float(value[1]))
        raise _wrong(where, name, "two numbers from 0 below 1", value)
    if name in ("warmup", "steps"):
        if type(value) is int and value >= (name == "steps"):
            return value
        raise _wrong(where, name, "a whole number of steps", value)
    if not _is_number(value) or value < 0 or (name in ("lr", "clip_norm") and value == 0):
        raise _wrong(where, name, "a positive number", value)
    return float(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _in_unit(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _wrong(where: str, name: str, expected: str, value: Any) -> UsageError:
    return UsageError(f"{where} has a wrong {name}", expected=expected, found=repr(value))


def overlay(base: Recipe, over: Recipe) -> Recipe:
    """``base`` with every part that ``over`` states; a default ``steps`` states nothing."""
    default = Recipe()
    stated = {
        name: value
        for name in _KEYS
        if (value := getattr(over, name)) is not None and value != getattr(default, name)
    }
    return dataclasses.replace(base, **stated)
