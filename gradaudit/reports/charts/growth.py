"""Growth of the gradient along the trunk, accumulated and stage by stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradaudit.records import Side, StageRow
from gradaudit.reports.marks import (
    AFTER,
    Point,
    along,
    beside,
    level,
    note_style,
    series,
    to_point,
)
from gradaudit.reports.numbers import power
from gradaudit.reports.plotting import NARROW, Span, canvas, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(
    stages: Sequence[StageRow],
    worst: int | None,
    limits: Sequence[tuple[float, str]],
    *,
    width: float,
    prefix: str,
    after: Side | None = None,
) -> str:
    """The gradient on its way from the output back to the input.

    Above: the gain accumulated from the output to each stage's input, with ``limits`` as
    (gain, label), and the same ``after`` the changes. Below: each stage's own gain with its
    interval; ``worst`` is named.
    """
    total, single = accumulated(stages), gains(stages)
    mended = accumulated_after(stages, after)
    with canvas(width, 420) as page:
        side = {"left": 48.0, "right": 12.0}
        page.heading("Gain from the output back to each stage", top=0)
        above = page.axes(**side, top=28, bottom=200)
        _accumulated(above, total, mended, limits, narrow=width < NARROW)
        page.heading("Gain of each stage alone", top=240)
        below = page.axes(**side, top=266, bottom=44)
        _gains(below, single)
        alarm = _past(_total(total), limits)
        for row, point in ((r, p) for r in stages for p in single if r.index == p.x == worst):
            _name_worst(below, point, row.name, alarm=alarm, narrow=width < NARROW)
        for axes in (above, below):
            along(axes, len(stages), narrow=width < NARROW)
        above.tick_params(labelbottom=False)
        page.figure.text(
            0.5, 4 / page.height, "stage (input → output)", ha="center", **note_style()
        )
        return page.finish(
            prefix=prefix,
            title="Growth of the gradient along the trunk",
            description=_words(total, single, mended),
        )


def accumulated(stages: Sequence[StageRow]) -> list[Point]:
    """log10 of the gain from the output back to each stage's input, input first.

    From the Jacobian norms where all are known, which carry an interval of their own; else by
    adding up log gains from the output until one is missing.
    """
    norms = [row.jacobian_norm_log10 for row in stages]
    start = _start(stages)
    if start is not None and all(norms):
        known = [norm for norm in norms if norm]
        return [
            Point(
                row.index,
                2 * norm.value - start,
                2 * (norm.value if norm.low is None else norm.low) - start,
                2 * (norm.value if norm.high is None else norm.high) - start,
                row.role != "interior",
            )
            for row, norm in zip(stages, known, strict=True)
        ]
    points: list[Point] = []
    total = 0.0
    for row in reversed(stages):
        point = to_point(row.index, row.backward_gain)
        if point is None:
            break
        total += point.value
        points.insert(0, Point(row.index, total, total, total, row.role != "interior"))
    return points


def accumulated_after(stages: Sequence[StageRow], after: Side | None) -> list[Point]:
    """The same after the changes, which leave the output as wide as it was; none where the stages
    are others.
    """
    start = _start(stages)
    if after is None or start is None or len(after.stages) != len(stages):
        return []
    ends = after.bounds or tuple((log10, log10) for _, log10 in after.stages)
    return [
        Point(row.index, 2 * log10 - start, 2 * low - start, 2 * high - start)
        for row, (_, log10), (low, high) in zip(stages, after.stages, ends, strict=True)
    ]


def _start(stages: Sequence[StageRow]) -> float | None:
    """2 log10 of the identity's norm at the output, from where the gradient sets out."""
    last = to_point(0, stages[-1].backward_gain) if stages else None
    norm = stages[-1].jacobian_norm_log10 if stages else None
    return 2 * norm.value - last.value if last and norm else None


def gains(stages: Sequence[StageRow]) -> list[Point]:
    """log10 of each stage's own backward gain, with its interval."""
    points = (to_point(row.index, row.backward_gain, row.role != "interior") for row in stages)
    return [point for point in points if point]


def _accumulated(
    axes: Axes,
    points: list[Point],
    after: list[Point],
    limits: Sequence[tuple[float, str]],
    *,
    narrow: bool,
) -> None:
    marks = [(math.log10(value), text) for value, text in limits if value > 0]
    reach = [y for p in (*points, *after) for y in (p.value, p.low, p.high)]
    span = Span.around([*reach, *(y for y, _ in marks), 0.0], least=2, pad=0.16)
    axes.set_ylim(span.low, span.high)
    axes.set_yticks(*log_ticks(span, 5))
    series(axes, after, look=AFTER)
    series(axes, points)
    for height, text in marks:
        axes.axhspan(height, span.high if height > 0 else span.low, color=INKS["zone"], linewidth=0)
        level(axes, height, text)
    total = _total(points)
    if total:
        text = power(total.value) if narrow else f"in all {power(total.value)}"
        beside(axes, (total.x, total.value), text, lift=14 if total.value >= 0 else -14)


def _total(points: list[Point]) -> Point | None:
    """Where the gradient has come through all but the inlet: the growth that limits are about.

    Of a net without hidden stages that is the head.
    """
    return next((p for p in points if not p.hollow), points[-1] if points else None)


def _past(total: Point | None, limits: Sequence[tuple[float, str]]) -> bool:
    if total is None:
        return False
    marks = [math.log10(value) for value, _ in limits if value > 0]
    return any(total.value > m if m > 0 else total.value < m for m in marks)


def _gains(axes: Axes, points: list[Point]) -> None:
    reach = [y for p in points for y in (p.value, p.low, p.high)] + [0.0]
    span = Span.around(reach, least=0.8, pad=0.3)
    axes.set_ylim(span.low, span.high)
    axes.set_yticks(*log_ticks(span, 4))
    axes.axhline(0, color=INKS["muted"], linewidth=1)
    series(axes, points, joined=False)


def _name_worst(axes: Axes, point: Point, name: str, *, alarm: bool, narrow: bool) -> None:
    if alarm:
        axes.plot([point.x], [point.value], "o", color=INKS["accent"], markersize=8)
    label = f"{shorten(name, 18 if narrow else 40)}: {power(point.value)}"
    ink = INKS["accent" if alarm else "muted"]
    beside(axes, (point.x, point.value), label, ink, lift=14 if point.value >= 0 else -14)


def _words(total: list[Point], single: list[Point], after: list[Point]) -> str:
    if not total or not single:
        return "No gains could be drawn."
    low, high = min(p.value for p in single), max(p.value for p in single)
    mended = f" After the changes: {power(after[0].value)}." if after else ""
    return (
        f"From the output back to the input the gradient's sum of squares is multiplied by "
        f"{power(total[0].value)}; single stages multiply it by {power(low)} to {power(high)}."
        f"{mended}"
    )
