"""Two lines in one drawing: before and after the changes, the recipe and a steady one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradaudit.records import Outlook, Side, Trial
from gradaudit.reports.marks import BINS, beside, decades
from gradaudit.reports.numbers import number, power
from gradaudit.reports.plotting import SMALL, Canvas, Span, canvas, linear_ticks, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DOTTED = 24  # points across a drawing up to which each one gets a dot
_LETTER, _STROKE, _GAP, _LINE = 6.9, 22, 18, 20  # pixels of the legend
_BROKEN = "diverged"
_Stroke = dict[str, Any]  # how a line is drawn
_Named = tuple[float, str, _Stroke]  # place from the left, name, stroke
_LEVEL: _Stroke = {"color": INKS["accent"], "linewidth": 1.5, "dashes": (5, 3)}


# How each line is drawn, by what it is; colours as in the chart of growth.
_STROKES: dict[str, _Stroke] = {
    "before": {"color": INKS["series"], "linewidth": 2},
    "after": {"color": INKS["after"], "linewidth": 2, "dashes": (4, 2)},
    "own": {"color": INKS["series"], "linewidth": 2},
    "reference": {"color": INKS["muted"], "linewidth": 2, "dashes": (3, 1.5)},
}
_MARKERS = {"before": "o", "after": "s", "own": "o", "reference": "o"}


@dataclass(frozen=True)
class Curve:
    """A named line of (place, height) pairs; ``broken`` where it ends because numbers did."""

    name: str
    kind: str  # "before" | "after" | "own" | "reference"
    points: tuple[tuple[float, float], ...]
    broken: bool = False
    bounds: tuple[tuple[float, float], ...] = ()  # of each point, where intervals are known


def depth(before: Side, after: Side, *, width: float, prefix: str) -> str:
    """The norm of the Jacobian from each stage to the output, before and after."""
    curves = [
        Curve(
            name,
            name,
            tuple((float(i), log10) for i, (_, log10) in enumerate(side.stages)),
            bounds=side.bounds,
        )
        for name, side in (("before", before), ("after", after))
    ]
    words = "; ".join(
        f"{c.name}: from {power(c.points[-1][1])} at the last stage to {power(c.points[0][1])} "
        "at the first"
        for c in curves
        if c.points
    )
    return _draw(
        curves,
        heading="Gradient that comes back to each stage (norm)",
        axis="stage (input → output)",
        log=True,
        words=words + ".",
        width=width,
        prefix=prefix,
    )


def losses(before: Side, after: Side, *, width: float, prefix: str) -> str:
    """The loss over the training steps, before and after."""
    curves = [
        Curve(name, name, spread(side.losses, side.steps), broken=side.last_loss is None)
        for name, side in (("before", before), ("after", after))
    ]
    return _losses(curves, "Loss over training steps", None, width=width, prefix=prefix)


def outlook(row: Outlook, *, width: float, prefix: str) -> str:
    """The recipe's own training further on, beside the steady one, over the constant's loss."""
    curves = [_trial(row.own, "the recipe", "own")]
    if row.reference is not None:
        curves.insert(0, _trial(row.reference, named(row.reference), "reference"))
    heading = "Loss over the steps that were taken"
    return _losses(curves, heading, row.constant, width=width, prefix=prefix)


def named(trial: Trial) -> str:
    """A trial's optimizer and rate in a few letters."""
    rate = f" at {number(trial.lr)}" if trial.lr is not None else ""
    return shorten(trial.optimizer, 14) + rate


def spread(values: Sequence[float], steps: int) -> tuple[tuple[float, float], ...]:
    """Means over equal parts of ``steps`` steps, each set at the middle of its part."""
    part = max(steps, len(values)) / max(len(values), 1)
    return tuple(((i + 0.5) * part - 0.5, value) for i, value in enumerate(values))


def _trial(trial: Trial, name: str, kind: str) -> Curve:
    points = spread(trial.losses, trial.steps)
    return Curve(name, kind, points, broken=trial.broke_at is not None)


def _losses(
    curves: Sequence[Curve], heading: str, constant: float | None, *, width: float, prefix: str
) -> str:
    heights = [y for curve in curves for _, y in curve.points]
    heights += [constant] if constant is not None else []
    log = min(heights) > 0 and max(heights) > 20 * min(heights)
    words = "; ".join(
        f"{c.name}: from {number(c.points[0][1])} to {number(c.points[-1][1])}"
        + (", then it diverged" if c.broken else "")
        for c in curves
        if c.points
    )
    if log:
        curves = [
            replace(c, points=tuple((x, decades(y) or 0.0) for x, y in c.points)) for c in curves
        ]
        constant = decades(constant)
    return _draw(
        curves,
        heading=heading,
        axis="step",
        log=log,
        level=constant,
        words=words + ".",
        width=width,
        prefix=prefix,
    )


def _draw(
    curves: Sequence[Curve],
    *,
    heading: str,
    axis: str,
    log: bool,
    words: str,
    width: float,
    prefix: str,
    level: float | None = None,
) -> str:
    """Lines that differ in colour, dashes and marks; their names stand above."""
    shown = [curve for curve in curves if curve.points]
    names = [(curve.name, _STROKES[curve.kind]) for curve in shown]
    if level is not None:
        names.append(("best constant guess", _LEVEL))
    rows = _rows(names, width)
    with canvas(width, 236 + _LINE * len(rows)) as page:
        page.heading(heading, top=0)
        _legend(page, rows)
        axes = page.axes(left=52, right=14, top=34 + _LINE * len(rows), bottom=44)
        _scale(axes, shown, [level] if level is not None else [], log=log)
        axes.set_xlabel(axis, fontsize=SMALL, color=INKS["muted"])
        if level is not None:
            axes.axhline(level, **_LEVEL)
        for curve in shown:
            _line(axes, curve)
        return page.finish(prefix=prefix, title=heading, description=words)


def _rows(names: Sequence[tuple[str, _Stroke]], width: float) -> list[list[_Named]]:
    """The legend's entries, each with its place from the left, broken into rows that fit."""
    rows: list[list[_Named]] = [[]]
    left = 0.0
    for name, stroke in names:
        needed = _STROKE + 6 + _LETTER * len(name)
        if left and left + needed > width:
            rows.append([])
            left = 0.0
        rows[-1].append((left, name, stroke))
        left += needed + _GAP
    return rows


def _legend(page: Canvas, rows: Sequence[Sequence[_Named]]) -> None:
    from matplotlib.lines import Line2D

    for i, row in enumerate(rows):
        height = 1 - (33 + _LINE * i) / page.height
        for left, name, stroke in row:
            ends = [left / page.width, (left + _STROKE) / page.width]
            page.figure.add_artist(Line2D(ends, [height, height], **stroke))
            place = (left + _STROKE + 6) / page.width
            page.figure.text(place, height, name, va="center", color=INKS["ink"], fontsize=SMALL)


def _scale(axes: Axes, curves: Sequence[Curve], levels: list[float], *, log: bool) -> None:
    heights = [y for curve in curves for _, y in curve.points] + levels
    largest = max(abs(y) for y in heights)
    span = Span.around(heights, least=1.0 if log else 0.2 * largest or 1.0, pad=0.12)
    axes.set_ylim(span.low, span.high)
    axes.set_yticks(*(log_ticks if log else linear_ticks)(span, 4))
    last = max(1.0, *(x for curve in curves for x, _ in curve.points))
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.set_xticks(*linear_ticks(Span(0, last), 4, whole=True))


def _line(axes: Axes, curve: Curve) -> None:
    stroke = _STROKES[curve.kind]
    points = _thin(curve.points)
    axes.plot(*zip(*points, strict=True), **stroke)
    left, right = axes.get_xlim()
    room = _DOTTED * (points[-1][0] - points[0][0]) / (right - left)
    dotted = len(points) <= max(2.0, room)
    if dotted:
        axes.plot(*zip(*points, strict=True), _MARKERS[curve.kind], color=stroke["color"], ms=4)
    if dotted and curve.bounds:
        ends = zip(*curve.bounds, strict=True)
        axes.vlines([x for x, _ in points], *ends, color=stroke["color"], linewidth=1.5)
    if curve.broken:
        axes.plot(*points[-1], "X", color=INKS["bad"], markersize=9, clip_on=False)
        beside(axes, points[-1], _BROKEN, INKS["bad"])


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Few enough points for a drawing of this size: the furthest from zero of each bin stays."""
    size = -(-len(points) // (2 * BINS))
    bins = (points[i : i + size] for i in range(0, len(points), size))
    return [max(part, key=lambda point: abs(point[1])) for part in bins]
