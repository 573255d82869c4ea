"""How far a trial came, and what the report tells of it."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.judging import Judged
from gradaudit.records import Attempt, Remedy


def worse(after: Judged, before: Judged, factor: float = 1.05) -> bool:
    """Whether it reached a loss clearly above the other's."""
    a, b = last_loss(after), last_loss(before)
    return a is not None and b is not None and a > factor * b


def last_loss(judged: Judged) -> float | None:
    """Of the longest training seen; ``None`` where it broke or was not made."""
    outlook, rehearsal = judged.measurements.outlook, judged.measurements.rehearsal
    if outlook is not None:
        return None if outlook.own.broke_at is not None else outlook.own.end
    if rehearsal is None or rehearsal.outcome == "diverges" or not rehearsal.losses:
        return None
    return rehearsal.losses[-1]


def attempt_of(remedies: Sequence[Remedy], judged: Judged, *, passed: bool) -> Attempt:
    """What is told of a set that was judged."""
    failing = list(dict.fromkeys(f.code for f in judged.findings if f.severity == "fail"))
    why = "it passes" if passed else f"forecast: {judged.forecast.outcome}"
    if failing:
        why = f"{', '.join(failing)} still fails; {why}"
    return Attempt(
        tuple(each.id for each in remedies),
        tuple(each.title for each in remedies),
        judged.forecast.outcome,
        passed,
        why,
        last_loss(judged),
    )


def broken_attempt(remedies: Sequence[Remedy], why: str) -> Attempt:
    """What is told of a set whose trial raised."""
    ids, titles = tuple(r.id for r in remedies), tuple(r.title for r in remedies)
    return Attempt(ids, titles, "not applied", passed=False, why=why)
