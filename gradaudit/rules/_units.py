"""Judging shares of units, one finding per module with its calls merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradaudit.records import Measurements, ModuleRow


def worst_calls(measurements: Measurements, field: str) -> Iterator[ModuleRow]:
    """For each module the call with the largest share in ``field``; unmeasured calls left out."""
    worst: dict[str, ModuleRow] = {}
    calls: dict[str, int] = {}
    for row in measurements.modules:
        share = getattr(row, field)
        if share is None:
            continue
        calls[row.module] = calls.get(row.module, 0) + 1
        best = worst.get(row.module)
        if best is None or share > getattr(best, field):
            worst[row.module] = row
    for module, row in worst.items():
        # A module called once needs no call number.
        yield row if calls[module] > 1 else replace(row, call=0)


def at_call(row: ModuleRow) -> str:
    """`` (call 3)`` where it matters which."""
    return f" (call {row.call})" if row.call else ""
