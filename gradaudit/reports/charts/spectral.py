"""Spectral norms of the weights, each against the edge expected of random entries of its size."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import WeightRow
from gradaudit.reports import ladder
from gradaudit.reports.marks import Point, along, beside, decades, level, note_style, series
from gradaudit.reports.marks import to_point as point_of
from gradaudit.reports.numbers import figures
from gradaudit.reports.plotting import NARROW, SMALL, Span, canvas, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten

SHOWN, FEW = 24, 12  # weights drawn one by one: where that is all of them, and beside all
_ROW = 22  # pixels
_TOP = 24  # pixels: the heading of the ratios
_RATIO = 56  # pixels: their column
_FAR = 0.3  # decades, a factor of two: further from its edge a weight is marked
_NAMED = 3  # weights named in a wide drawing of all


def draw(weights: Sequence[WeightRow], *, width: float, prefix: str) -> str:
    """Measured spectral norm of each weight, its own edge as a tick, and their ratio at the side.

    Draws the rows given, in their order; choose and cut them with :func:`furthest`.
    """
    found = (point_of(-i, row.spectral_norm) for i, row in enumerate(weights))
    points = [point for point in found if point]
    edges = [decades(row.random_edge) for row in weights]
    pairs = [(p, edge) for p in points if (edge := edges[round(-p.x)]) is not None]
    reach = [x for p in points for x in (p.low, p.value, p.high)] + [edge for _, edge in pairs]
    with canvas(width, ladder.height(len(weights), _ROW, _TOP)) as page:
        names = [row.parameter for row in weights]
        axes = ladder.ladder(page, names, reach, mono=True, top=_TOP, right=_RATIO)
        rows, marks = [p.x for p, _ in pairs], [edge for _, edge in pairs]
        axes.hlines(rows, marks, [p.value for p, _ in pairs], color=INKS["band"], linewidth=4)
        axes.plot(marks, rows, "|", color=INKS["muted"], markersize=13, mew=2)
        ladder.dots(axes, points)
        page.figure.text(1, 1, "× random", ha="right", va="top", **note_style())
        for point, edge in pairs:
            far = abs(point.value - edge) > _FAR
            axes.annotate(
                figures(10 ** (point.value - edge)),
                (1, point.x),
                xycoords=("axes fraction", "data"),
                xytext=(_RATIO - 2, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=INKS["ink" if far else "muted"],
                fontsize=SMALL,
                fontweight="bold" if far else "normal",
            )
        return page.finish(
            prefix=prefix,
            title="Spectral norms",
            description=f"Spectral norm of {len(weights)} weights; the numbers are in the table.",
        )


def draw_along(weights: Sequence[WeightRow], *, width: float, prefix: str) -> str:
    """Every weight's norm over its own random edge, in the model's order."""
    points = ratios(weights)
    reach = [0.0, *(p.value for p in points)]
    narrow = width < NARROW
    with canvas(width, 230) as page:
        page.heading("Spectral norm over that of random entries", top=0)
        axes = page.axes(left=48, right=12, top=28, bottom=44)
        span = Span.around(reach, least=0.8, pad=0.16)
        axes.set_ylim(span.low, span.high)
        axes.set_yticks(*log_ticks(span, 5))
        along(axes, len(weights), narrow=narrow)
        level(axes, 0.0, "random", late=False)
        series(axes, points, joined=False)
        for point in _apart(points, len(weights))[: 1 if narrow else _NAMED]:
            name = shorten(weights[round(point.x)].parameter, 18 if narrow else 40)
            beside(axes, (point.x, point.value), name, lift=10 if point.value > 0 else -10)
        page.figure.text(
            0.5, 4 / page.height, "weight (in the model's order)", ha="center", **note_style()
        )
        low, high = (figures(10 ** f(p.value for p in points)) for f in (min, max))
        return page.finish(
            prefix=prefix,
            title="Spectral norms against random entries",
            description=f"{len(points)} weights have {low} to {high} times the spectral norm of "
            "random entries of the same size.",
        )


def ratios(weights: Sequence[WeightRow]) -> list[Point]:
    """log10 of norm over edge at each weight's place, where both are known."""
    found = []
    for i, row in enumerate(weights):
        point, edge = point_of(i, row.spectral_norm), decades(row.random_edge)
        if point is not None and edge is not None:
            low, high = point.low - edge, point.high - edge
            found.append(Point(i, point.value - edge, low, high))
    return found


def furthest(weights: Sequence[WeightRow], most: int = SHOWN) -> tuple[WeightRow, ...]:
    """The ``most`` measured weights furthest from their random edge, in the model's order."""
    measured = [row for row in weights if row.spectral_norm and row.spectral_norm.value > 0]

    def distance(row: WeightRow) -> float:
        found = ratios([row])
        return abs(found[0].value) if found else 0.0

    kept = {id(row) for row in sorted(measured, key=distance, reverse=True)[:most]}
    return tuple(row for row in measured if id(row) in kept)


def _apart(points: Sequence[Point], places: int) -> list[Point]:
    """The few furthest from random, none so near another that their names would overlap."""
    chosen: list[Point] = []
    for point in sorted(points, key=lambda p: abs(p.value), reverse=True):
        if abs(point.value) <= _FAR:
            break
        if all(abs(point.x - other.x) > 0.3 * places for other in chosen):
            chosen.append(point)
    return chosen
