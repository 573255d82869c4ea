"""Records in, drawings out: each function returns one inline SVG element.

Quantities that span many orders of magnitude are drawn in decimal logarithms, because the
gradients of deep nets leave a float's range. ``width`` is in CSS pixels; ``prefix`` keeps the ids
of several drawings in one page apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from gradaudit.records import StageRow, WeightRow
from gradaudit.reports.marks import Point, beside, decades, level, note_style, to_point
from gradaudit.reports.numbers import power
from gradaudit.reports.plotting import (
    Span,
    canvas,
    linear_ticks,
    log_ticks,
)
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NARROW = 480  # below this width there is room for fewer ticks and shorter names
_BINS = 160  # stages past twice this are drawn in bins: a dot needs two pixels
WEIGHTS_SHOWN = 24


def growth(
    stages: Sequence[StageRow],
    worst: int | None,
    limits: Sequence[tuple[float, str]],
    *,
    width: float,
    prefix: str,
) -> str:
    """The gradient on its way from the output back to the input.

    Above: the gain accumulated from the output to each stage's input, with ``limits`` as
    (gain, label). Below: each stage's own gain with its interval; ``worst`` is named.
    """
    total, single = accumulated(stages), gains(stages)
    with canvas(width, 420) as page:
        side = {"left": 48.0, "right": 12.0}
        page.heading("Gain from the output back to each stage", top=0)
        above = page.axes(**side, top=28, bottom=200)
        _accumulated(above, total, limits, narrow=width < _NARROW)
        page.heading("Gain of each stage alone", top=240)
        below = page.axes(**side, top=266, bottom=44)
        _gains(below, single)
        alarm = _past(_total(total), limits)
        for row, point in ((r, p) for r in stages for p in single if r.index == p.x == worst):
            _name_worst(below, point, row.name, alarm=alarm, narrow=width < _NARROW)
        for axes in (above, below):
            _stage_axis(axes, len(stages), narrow=width < _NARROW)
        above.tick_params(labelbottom=False)
        page.figure.text(
            0.5, 4 / page.height, "stage (input → output)", ha="center", **note_style()
        )
        return page.finish(
            prefix=prefix,
            title="Growth of the gradient along the trunk",
            description=_growth_words(total, single),
        )


def spectral(weights: Sequence[WeightRow], *, width: float, prefix: str) -> str:
    """Measured spectral norm of each weight beside that of random entries of the same scale.

    Draws the rows given, in their order; choose and cut them with :func:`furthest`.
    """
    narrow = width < _NARROW
    letters = 18 if narrow else 34
    names = [shorten(row.parameter, letters) for row in weights]
    left = 8 + 7.3 * max(map(len, names))
    with canvas(width, 34 + 22 * len(weights)) as page:
        axes = page.axes(left=left, right=14, top=6, bottom=28)
        points = [to_point(-i, row.spectral_norm) for i, row in enumerate(weights)]
        edges = [decades(row.random_edge) for row in weights]
        span = _horizontal_log(axes, [p for p in points if p], edges, narrow=narrow)
        _bullets(axes, [p for p in points if p], edges)
        axes.set(ylim=(-len(weights) + 0.4, 0.6), xlim=(span.low, span.high))
        axes.set_yticks([-i for i in range(len(weights))], names, family="DejaVu Sans Mono")
        axes.tick_params(axis="y", labelcolor=INKS["ink"])
        return page.finish(
            prefix=prefix,
            title="Spectral norms",
            description=f"Spectral norm of {len(weights)} weights; the numbers are in the table.",
        )


def furthest(weights: Sequence[WeightRow], most: int = WEIGHTS_SHOWN) -> tuple[WeightRow, ...]:
    """The ``most`` measured weights furthest from their random edge, in the model's order."""
    measured = [row for row in weights if row.spectral_norm and row.spectral_norm.value > 0]

    def distance(row: WeightRow) -> float:
        edge = decades(row.random_edge)
        point = to_point(0, row.spectral_norm)
        return abs(point.value - edge) if point and edge is not None else 0.0

    kept = {id(row) for row in sorted(measured, key=distance, reverse=True)[:most]}
    return tuple(row for row in measured if id(row) in kept)


def accumulated(stages: Sequence[StageRow]) -> list[Point]:
    """log10 of the gain from the output back to each stage's input, input first.

    From the Jacobian norms where all are known, which carry an interval of their own; else by
    adding up log gains from the output until one is missing.
    """
    norms = [row.jacobian_norm_log10 for row in stages]
    last = to_point(0, stages[-1].backward_gain) if stages else None
    if last and all(norms):
        known = [norm for norm in norms if norm]
        start = 2 * known[-1].value - last.value  # 2 log10 of the identity's norm at the output
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


def gains(stages: Sequence[StageRow]) -> list[Point]:
    """log10 of each stage's own backward gain, with its interval."""
    points = (to_point(row.index, row.backward_gain, row.role != "interior") for row in stages)
    return [point for point in points if point]


def _accumulated(
    axes: Axes, points: list[Point], limits: Sequence[tuple[float, str]], *, narrow: bool
) -> None:
    marks = [(math.log10(value), text) for value, text in limits if value > 0]
    reach = [y for p in points for y in (p.value, p.low, p.high)] + [y for y, _ in marks] + [0.0]
    span = Span.around(reach, least=2, pad=0.16)
    axes.set_ylim(span.low, span.high)
    axes.set_yticks(*log_ticks(span, 5))
    _series(axes, points)
    for height, text in marks:
        axes.axhspan(height, span.high if height > 0 else span.low, color=INKS["zone"], linewidth=0)
        level(axes, height, text)
    total = _total(points)
    if total:
        text = power(total.value) if narrow else f"in all {power(total.value)}"
        beside(axes, (total.x, total.value), text, lift=14 if total.value >= 0 else -14)


def _total(points: list[Point]) -> Point | None:
    """Where the gradient has come through all but the inlet: the growth that limits are about."""
    return next((p for p in points if not p.hollow), points[0] if points else None)


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
    _series(axes, points, joined=False)


def _name_worst(axes: Axes, point: Point, name: str, *, alarm: bool, narrow: bool) -> None:
    if alarm:
        axes.plot([point.x], [point.value], "o", color=INKS["accent"], markersize=8)
    label = f"{shorten(name, 18 if narrow else 40)}: {power(point.value)}"
    ink = INKS["accent" if alarm else "muted"]
    beside(axes, (point.x, point.value), label, ink, lift=14 if point.value >= 0 else -14)


def _series(axes: Axes, points: list[Point], *, joined: bool = True) -> None:
    """Dots with error bars; a band from smallest to largest where there are too many for dots."""
    colour = INKS["series"]
    if len(points) > 2 * _BINS:
        x, low, mid, high = _binned(points)
        axes.fill_between(x, low, high, color=INKS["band"], linewidth=0)
        axes.plot(x, mid, color=colour, linewidth=2)
        return
    low, high = [p.low for p in points], [p.high for p in points]
    axes.vlines([p.x for p in points], low, high, color=colour, linewidth=1.5)
    if joined:
        axes.plot([p.x for p in points], [p.value for p in points], color=colour, linewidth=2)
    size = 6 if len(points) <= 60 else 3
    for hollow, face in ((False, colour), (True, INKS["surface"])):
        some = [p for p in points if p.hollow is hollow]
        axes.plot(
            [p.x for p in some],
            [p.value for p in some],
            "o",
            color=colour,
            markerfacecolor=face,
            markersize=size,
            mew=1.5,
        )


def _binned(points: list[Point]) -> tuple[list[float], list[float], list[float], list[float]]:
    size = math.ceil(len(points) / _BINS)
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    return (
        [median(p.x for p in b) for b in bins],
        [min(p.value for p in b) for b in bins],
        [median(p.value for p in b) for b in bins],
        [max(p.value for p in b) for b in bins],
    )


def _stage_axis(axes: Axes, stages: int, *, narrow: bool) -> None:
    room = max(0.5, 0.02 * stages)
    axes.set_xlim(-room, max(stages - 1, 0) + room)
    span = Span(0, max(stages - 1, 1))
    axes.set_xticks(*linear_ticks(span, 4 if narrow else 8, whole=True))


def _bullets(axes: Axes, points: list[Point], edges: list[float | None]) -> None:
    """A dot with its interval per row, and a band from the mark it is compared with."""
    pairs = [(p, edge) for p in points if (edge := edges[round(-p.x)]) is not None]
    rows = [p.x for p, _ in pairs]
    marks = [edge for _, edge in pairs]
    axes.hlines(rows, marks, [p.value for p, _ in pairs], color=INKS["band"], linewidth=4)
    axes.plot(marks, rows, "|", color=INKS["muted"], markersize=13, mew=2)
    heights, colour = [p.x for p in points], INKS["series"]
    axes.hlines(
        heights, [p.low for p in points], [p.high for p in points], color=colour, linewidth=1.5
    )
    axes.plot([p.value for p in points], heights, "o", color=colour, markersize=6)


def _horizontal_log(
    axes: Axes, points: list[Point], edges: list[float | None], *, narrow: bool
) -> Span:
    reach = [x for p in points for x in (p.low, p.value, p.high)]
    span = Span.around([*reach, *(e for e in edges if e is not None)], least=1, pad=0.06)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=INKS["grid"], linewidth=1)
    axes.set_xticks(*log_ticks(span, 4 if narrow else 6))
    return span


def _growth_words(total: list[Point], single: list[Point]) -> str:
    if not total or not single:
        return "No gains could be drawn."
    low, high = min(p.value for p in single), max(p.value for p in single)
    return (
        f"From the output back to the input the gradient's sum of squares is multiplied by "
        f"{power(total[0].value)}; single stages multiply it by {power(low)} to {power(high)}."
    )
