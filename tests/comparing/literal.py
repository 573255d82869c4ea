"""Snapshots written down, for tests of what is told of two of them."""

from __future__ import annotations

from typing import Any

from gradaudit.comparing.compare import compare
from gradaudit.records import Comparison, Estimate, Known, Limit, Measured, Severity, Snapshot
from gradaudit.tolerances import TOLERANCES

LIMIT = Limit(0.5, "share of units", "a source")
SETTINGS = {"effort": "quick", "seed": 0, "torch": "2.10.0", "sample": "given: 5 batches of 64"}


def known(
    place: str = "layers.3",
    value: float = 0.7,
    severity: Severity = "warn",
    *,
    code: str = "GA401",
    half: float = 0.0,
    limit: Limit = LIMIT,
) -> Known:
    estimate = Estimate(value, value - half, value + half, limit.unit)
    return Known(code, "dead-units", place, severity, estimate, limit)


def measured(
    metric: str, value: float, half: float = 0.0, place: str = "the model", unit: str = "gain"
) -> Measured:
    return Measured(metric, place, Estimate(value, value - half, value + half, unit))


def snapshot(*rows: Known | Measured, **changed: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "version": "0.1.0",
        "verdict": "warn",
        "subject": {"name": "Net", "parameters": 100, "stages": 4},
        "settings": SETTINGS,
        **changed,
    }
    return Snapshot(
        findings=tuple(row for row in rows if isinstance(row, Known)),
        metrics=tuple(row for row in rows if isinstance(row, Measured)),
        **fields,
    )


def compared(before: Snapshot | None, now: Snapshot, *, baseline: bool = True) -> Comparison:
    return compare(before, now, "base.json", TOLERANCES, baseline=baseline)
