"""Judging how a recurrent module carries the gradient back through time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from gradaudit.records import (
    SEVERITIES,
    Estimate,
    Finding,
    Limit,
    Measurements,
    RecurrentRow,
    Severity,
)
from gradaudit.rules._growth import log10_limit
from gradaudit.rules._judge import (
    Standing,
    broken_by_our_rate,
    contradicted,
    learned,
    made_up,
    standing,
)
from gradaudit.rules._scale import data_to_blame
from gradaudit.settings import Settings

_UNIT = "log10 of total gain over time (sum of squares)"


def time_growth(row: RecurrentRow) -> Estimate | None:
    """log10 of the squared gain from the last step to the first.

    A gradient that is exactly zero at the first step has no logarithm; the smallest value above
    zero on the way back then bounds it from above.
    """
    if row.growth_log10 is not None:
        return row.growth_log10
    steps = sorted(row.profile)
    if len(steps) < 2 or steps[0][1] != 0 or steps[-1][1] <= 0:
        return None
    smallest = min(rms for _, rms in steps if rms > 0)
    bound = 2 * (math.log10(smallest) - math.log10(steps[-1][1]))
    return Estimate(bound, None, bound, _UNIT)


def judged_rows(
    measurements: Measurements, settings: Settings, *, above: bool
) -> Iterator[tuple[RecurrentRow, Estimate, Limit, Standing]]:
    """The recurrent modules whose growth over time is past its limit, or may be."""
    limit = log10_limit(settings.limit(f"time_growth_{'max' if above else 'min'}"))
    for row in measurements.recurrent:
        measured = time_growth(row)
        if measured is None:
            continue
        found = standing(measured, limit, above=above)
        if found != "within":
            yield row, measured, limit, found


def past_in_time(
    measurements: Measurements, settings: Settings, *, above: bool
) -> tuple[RecurrentRow, ...]:
    """The recurrent modules that explode (or vanish) through time beyond doubt."""
    rows = judged_rows(measurements, settings, above=above)
    return tuple(row for row, _, _, found in rows if found == "past")


def no_usable_rehearsal(measurements: Measurements, settings: Settings) -> bool:
    """Whether nothing tells if the task needs the memory.

    No rehearsal, one on made-up data, one that data far from unit scale keeps from learning, or one
    broken by a rate that nobody gave.
    """
    return (
        measurements.rehearsal is None
        or broken_by_our_rate(measurements)
        or made_up(measurements)
        or data_to_blame(measurements, settings)
    )


def excused(measurements: Measurements) -> bool:
    """Whether training, done or rehearsed, contradicts the number."""
    return (contradicted(measurements) and not made_up(measurements)) or learned(measurements)


def read_directly(row: RecurrentRow, settings: Settings) -> bool:
    """Whether the loss's own gradient reaches the first step although the recurrence forgets it."""
    limit = math.log10(settings.limit("time_growth_min").value)
    return row.loss_growth_log10 is not None and row.loss_growth_log10 > limit


def time_severity(
    row: RecurrentRow,
    found: Standing,
    measurements: Measurements,
    settings: Settings,
    *,
    above: bool,
) -> Severity:
    """How much it weighs.

    Forgetting harms only a task that needs the memory, so it fails only where the loss reads the
    last step alone and does not fall in a rehearsal on real data; exploding harms any.
    """
    if found != "past" or (not above and read_directly(row, settings)):
        return "note"
    if excused(measurements):
        return "warn" if above else "note"
    if above:
        return "fail"
    learns = measurements.rehearsal is not None and measurements.rehearsal.outcome == "falls"
    return "warn" if learns or no_usable_rehearsal(measurements, settings) else "fail"


def one_per_module(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Of the two directions of a layer the finding that weighs more; the first of equals."""
    worst: dict[str | None, Finding] = {}
    for finding in findings:
        known = worst.get(finding.where.module)
        weighs = SEVERITIES.index(finding.severity)  # the worst first
        if known is None or weighs < SEVERITIES.index(known.severity):
            worst[finding.where.module] = finding
    yield from worst.values()


def through(row: RecurrentRow) -> str:
    """The module, or that half of it, as a sentence names it."""
    half = "the backward half of " if row.direction == "backward" else ""
    return f"{half}`{row.module}`"


def way_back(row: RecurrentRow) -> str:
    """Which way the gradient runs, step by step."""
    return "forward in time" if row.direction == "backward" else "back in time"


def gate_name(row: RecurrentRow) -> str:
    """The gate that keeps the state."""
    return "update gate" if row.type.startswith("GRU") else "forget gate"


def per_step(row: RecurrentRow, measured: Estimate) -> float:
    """The gain in norm of one step back in time."""
    if row.growth_per_step is not None and row.growth_per_step.value > 0:
        return math.sqrt(row.growth_per_step.value)
    return 10.0 ** (measured.value / 2 / max(1, row.steps - 1))
