"""Judging the Jacobian's growth along the trunk, in either direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradaudit.records import (
    Estimate,
    Limit,
    Measurements,
    Severity,
    StageRow,
)
from gradaudit.rules._judge import (
    contradicted,
    is_adaptive,
    learned,
    optimizer_in_use,
    standing,
)
from gradaudit.settings import Settings

_UNDERFLOW = -300.0  # log10 given to a gain of exactly zero, so that sums stay finite


@dataclass(frozen=True)
class Growth:
    """One direction of growth that is, or may be, past its limit."""

    measured: Estimate
    limit: Limit
    past: bool  # False: the interval straddles the limit
    plain: bool  # judged on plain growth; False: on GSC


@dataclass(frozen=True)
class Span:
    """The run of neighbouring stages that the growth comes from; logs are of squared gains."""

    stages: tuple[StageRow, ...]
    log10: float
    worst: StageRow
    worst_log10: float


def judge_growth(measurements: Measurements, settings: Settings, *, above: bool) -> Growth | None:
    """Hold plain growth and GSC against their limits; either past its own is growth.

    GSC is blind to scale faults of homogeneous nets and plain growth misjudges nets whose norms
    undo scale (Philipp, arXiv 1712.05577), so neither decides alone. ``None`` where both are
    within, or no trunk was found.
    """
    trunk = measurements.trunk
    if not trunk.found:
        return None
    end = "max" if above else "min"
    total, gsc = _without_loops(measurements)
    held = [
        (total, log10_limit(settings.limit(f"growth_{end}")), True),
        (gsc, settings.limit(f"gsc_{end}"), False),
    ]
    judged = [
        (standing(measured, limit, above=above), measured, limit, plain)
        for measured, limit, plain in held
        if measured is not None and not (plain and _only_at_the_ends(measurements, limit, above))
    ]
    if not above and any(blocks(stage) for stage in judged_stages(measurements)):
        limit = settings.limit("growth_min")
        judged.insert(0, ("past", Estimate.exact(0.0, limit.unit), limit, True))
    for wanted in ("past", "straddles"):
        for found, measured, limit, plain in judged:
            if found == wanted:
                return Growth(measured, limit, found == "past", plain)
    return None


def _only_at_the_ends(measurements: Measurements, limit: Limit, above: bool) -> bool:
    """Whether the stages between first and last layer stay within: the head's norm or pooling
    rescales the whole gradient once, and does not compound with depth.
    """
    inner = measurements.trunk.interior_growth_log10
    if inner is None or measurements.trunk.interior_stages < 2:
        return False
    return standing(inner, limit, above=above) == "within"


def judged_stages(measurements: Measurements) -> tuple[StageRow, ...]:
    """All but loops over time (GA201 and GA202 judge their profile) and a head that will open."""
    loops = {row.module for row in measurements.recurrent}
    return tuple(
        stage
        for stage in measurements.stages
        if not loops & {stage.name, *stage.modules} and not _will_open(stage, measurements)
    )


def _will_open(stage: StageRow, measurements: Measurements) -> bool:
    """Whether it is a head of zeros whose weights hear the loss: the first step opens it."""
    if stage.role != "head" or not blocks(stage):
        return False
    zero = {w.parameter for w in measurements.weights if w.rms == 0} & {*stage.parameters}
    heard = {
        row.parameter
        for row in measurements.parameters
        if row.trainable and row.gradient_norm is not None and row.gradient_norm.value > 0
    }
    return bool(zero) and zero <= heard


def _without_loops(measurements: Measurements) -> tuple[Estimate | None, Estimate | None]:
    """Total growth (log10) and GSC of the trunk with the loops over time taken out.

    Behind a head that will open the total is that of the stages before it.
    """
    total, gsc = measurements.trunk.total_growth_log10, measurements.trunk.gsc
    left_out = {s.index for s in measurements.stages} - {
        s.index for s in judged_stages(measurements)
    }
    if measurements.stages and _will_open(measurements.stages[-1], measurements):
        left_out.discard(measurements.stages[-1].index)
        total = measurements.trunk.interior_growth_log10
    for stage in measurements.stages:
        if stage.index not in left_out or stage.role == "inlet":
            continue
        log = gain_log10(stage)
        if total is not None and log is not None:
            total = _mapped(total, lambda x, log=log: x - log)  # type: ignore[misc]
        if gsc is not None and stage.gsc is not None and stage.gsc.value > 0:
            own = stage.gsc.value
            gsc = _mapped(gsc, lambda x, own=own: x / own)  # type: ignore[misc]
    return total, gsc


def _mapped(measured: Estimate, change: Callable[[float], float]) -> Estimate:
    """An interval with an increasing function applied to its ends."""
    low = None if measured.low is None else change(measured.low)
    high = None if measured.high is None else change(measured.high)
    return Estimate(change(measured.value), low, high, measured.unit)


def blocks(stage: StageRow) -> bool:
    """Whether a stage behind the inlet passes no gradient at all: a growth without a logarithm."""
    gain = stage.backward_gain
    return stage.role != "inlet" and gain is not None and gain.high == 0


def growth_severity(growth: Growth, measurements: Measurements, settings: Settings) -> Severity:
    """Fail only where neither the rehearsal nor the weights' own past contradicts.

    A loss that falls, if not yet below a constant guess, is enough against GSC alone, and against
    gradients that an adaptive optimizer can still scale up.
    """
    if not growth.past:
        return "note"
    falls = measurements.rehearsal is not None and measurements.rehearsal.outcome == "falls"
    mild = falls and (not growth.plain or _within_reach(growth, measurements, settings))
    return "warn" if mild or contradicted(measurements) or learned(measurements) else "fail"


def _within_reach(growth: Growth, measurements: Measurements, settings: Settings) -> bool:
    """Whether gradients vanish by no more than Adam's normalisation makes up for."""
    total = growth.measured
    if total.value >= 0 or total.low is None or not is_adaptive(optimizer_in_use(measurements)):
        return False
    return log10_limit(settings.limit("growth_min_adaptive")).value < total.low


def log10_limit(limit: Limit) -> Limit:
    """The same limit in the unit that total growth is measured in."""
    return Limit(math.log10(limit.value), f"log10 of {limit.unit}", limit.source)


def gain_log10(stage: StageRow) -> float | None:
    """log10 of a stage's squared backward gain."""
    if stage.backward_gain is None:
        return None
    value = stage.backward_gain.value
    return math.log10(value) if value > 0 else _UNDERFLOW


def find_span(stages: tuple[StageRow, ...], *, above: bool) -> Span | None:
    """The neighbouring stages behind the inlet whose gains multiply to the most (or least)."""
    sign = 1.0 if above else -1.0
    best: tuple[float, list[tuple[float, StageRow]]] = (0.0, [])
    total, run = 0.0, list[tuple[float, StageRow]]()
    for stage in stages:
        log = gain_log10(stage)
        if stage.role == "inlet" or log is None:
            total, run = 0.0, []
            continue
        if total <= 0:
            total, run = 0.0, []
        total += sign * log
        run.append((sign * log, stage))
        if total > best[0]:
            best = (total, list(run))
    if not best[1]:
        return None
    inner = [pair for pair in best[1] if pair[1].role == "interior"]
    worst_log, worst = max(inner or best[1], key=lambda pair: pair[0])
    return Span(tuple(stage for _, stage in best[1]), sign * best[0], worst, sign * worst_log)
