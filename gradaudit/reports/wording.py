"""Settings, recipes and remedies in words, and the command line that repeats an audit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gradaudit.records import Estimate, Limit, Report
from gradaudit.reports.numbers import number
from gradaudit.resources import resource

_FEW = 4  # entries of a nested setting that are still listed one by one
# Options whose value at rest says nothing, in the order a command line would have them.
_OPTIONS: Mapping[str, Any] = {
    "build": None,
    "data": None,
    "batch_size": None,
    "target": None,
    "input": None,
    "loss": "auto",
    "state": "auto",
    "trust": False,
    "effort": "standard",
    "device": "cpu",
    "threads": None,
    "select": (),
    "ignore": (),
}


def command(report: Report) -> str:
    """The command line that repeats the audit."""
    source = report.subject.source
    words = ["gradaudit", "demo" if source == _demo() else source]
    for name, rest in _OPTIONS.items():
        value = report.settings.get(name, rest)
        if value is None or value == rest or value in ((), []):
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(",".join(value) if isinstance(value, (tuple, list)) else str(value))
    recipe = report.recipe
    for name in (
        "optimizer", "lr", "momentum", "betas", "weight_decay", "clip_norm", "warmup", "precision",
    ):  # fmt: skip
        value = getattr(recipe, name)
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += ["--" + name.replace("_", "-"), text]
    words += ["--steps", str(recipe.steps), "--seed", str(report.seed)]
    return shlex.join(words)


def _demo() -> str:
    """What ``gradaudit demo`` audits: a path that differs from machine to machine."""
    return f"{resource('samples', 'exploding_mlp.py')}:subject"


def flat(mapping: Mapping[str, Any], skip: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """A mapping as names and text, nested ones with dotted names, empty values left out."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if key in skip or value is None or value in ((), [], ""):
            continue
        if isinstance(value, Mapping):
            if len(value) > _FEW:
                rows.append((str(key), _summary(list(value.values()))))
            else:
                rows += [(f"{key}.{name}", text) for name, text in flat(value)]
        else:
            rows.append((str(key), say(value)))
    return tuple(rows)


def say(value: object) -> str:
    """A value of a setting or a remedy in words."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case float():
            return number(value)
        case Estimate():
            return f"{number(value.value)} {value.unit}"
        case Limit():
            return f"{number(value.value)} {value.unit}"
        case list() | tuple():
            return ", ".join(say(item) for item in value)
        case _:
            return str(value)


def _summary(values: Sequence[object]) -> str:
    """Many values in a few words: the range of numbers, or what they are."""
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        text = say(low) if low == high else f"{say(low)} – {say(high)}"
    else:
        kinds = list(dict.fromkeys(map(say, values)))
        text = ", ".join(kinds[:_FEW]) + (", …" if len(kinds) > _FEW else "")
    return f"{text} ({len(values):,} values)"
