"""Why a baseline no longer tells what it was written to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradaudit.comparing.metrics import METRICS
from gradaudit.comparing.pairing import pairs
from gradaudit.records import Snapshot
from gradaudit.telling import listed, printable

# Settings under which the same model gives other numbers, as a reader calls them.
_TITLES = {
    "batch_size": "batch size",
    "select": "rules selected",
    "ignore": "rules ignored",
    "limits": "limits",
    "torch": "torch version",
}


def stale(before: Snapshot | None, now: Snapshot, *, baseline: bool) -> tuple[str, ...]:
    """One sentence each; of a baseline with what to do about it."""
    called = "the baseline" if baseline else "the older report"
    ending = "; write it anew with --write-baseline." if baseline else "."
    sentences = (_capital(sentence) + ending for sentence in _reasons(before, now, called))
    return tuple(sentences)


def _reasons(before: Snapshot | None, now: Snapshot, called: str) -> Iterator[str]:
    if before is None:
        yield f"this model is not in {called}, so that everything found counts as new"
        return
    if before.version != now.version:
        yield (
            f"{called} is by gradaudit {printable(before.version, 40)} and this is {now.version}, "
            "so that findings and numbers may differ for that alone"
        )
    old, new = before.subject.get("name"), now.subject.get("name")
    if old and new and old != new:
        first, second = printable(str(old), 80), printable(str(new), 80)
        yield f"{called} is of a model of class {first}, this one is of class {second}"
    yield from _settings(before.settings, now.settings, called)
    gone = [one for one, other in pairs(before.findings, now.findings) if one and not other]
    if gone and called == "the baseline":
        places = listed([printable(f"{each.code} at {each.place}", 120) for each in gone])
        yield (
            f"{len(gone)} of its findings {'is' if len(gone) == 1 else 'are'} no longer found "
            f"({places}), and could come back unnoticed"
        )
    yield from _lost(before, now, called)


def _settings(before: Mapping[str, Any], now: Mapping[str, Any], called: str) -> Iterator[str]:
    changed = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) or isinstance(new, dict):
            old, new = _differing(_table(old), _table(new))
        changed.append(f"{_TITLES.get(name, name)} ({_shown(old)}, now {_shown(new)})")
    if changed:
        yield (
            f"{called} was made with other settings, so that numbers may differ for that alone: "
            + "; ".join(changed)
        )


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Any, Any]:
    """Only the entries in which they differ."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    first, second = ({n: each[n] for n in names if n in each} for each in (old, new))
    return first, second


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(_shown, value))
    return printable(str(value), 120) if value not in (None, "") else "not set"


def _lost(before: Snapshot, now: Snapshot, called: str) -> Iterator[str]:
    titles = {metric.name: metric.title for metric in METRICS}
    for one, other, said in (
        (before, now, f"not measured any more, but in {called}"),
        (now, before, f"measured now, and not in {called}"),
    ):
        names = [each.metric for each in one.metrics if other.metric(each.metric) is None]
        if names:
            yield f"{said}: {listed([titles.get(name, name) for name in names], shown=5)}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
