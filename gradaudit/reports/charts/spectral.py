"""Spectral norms of the weights beside those of random entries."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import WeightRow
from gradaudit.reports import ladder
from gradaudit.reports.marks import decades, to_point
from gradaudit.reports.plotting import canvas
from gradaudit.reports.svg import INKS

SHOWN = 24
_ROW = 22  # pixels


def draw(weights: Sequence[WeightRow], *, width: float, prefix: str) -> str:
    """Measured spectral norm of each weight beside that of random entries of the same scale.

    Draws the rows given, in their order; choose and cut them with :func:`furthest`.
    """
    found = (to_point(-i, row.spectral_norm) for i, row in enumerate(weights))
    points = [point for point in found if point]
    edges = [decades(row.random_edge) for row in weights]
    pairs = [(p, edge) for p in points if (edge := edges[round(-p.x)]) is not None]
    reach = [x for p in points for x in (p.low, p.value, p.high)] + [edge for _, edge in pairs]
    with canvas(width, ladder.height(len(weights), _ROW)) as page:
        axes = ladder.ladder(page, [row.parameter for row in weights], reach, mono=True)
        rows, marks = [p.x for p, _ in pairs], [edge for _, edge in pairs]
        axes.hlines(rows, marks, [p.value for p, _ in pairs], color=INKS["band"], linewidth=4)
        axes.plot(marks, rows, "|", color=INKS["muted"], markersize=13, mew=2)
        ladder.dots(axes, points)
        return page.finish(
            prefix=prefix,
            title="Spectral norms",
            description=f"Spectral norm of {len(weights)} weights; the numbers are in the table.",
        )


def furthest(weights: Sequence[WeightRow], most: int = SHOWN) -> tuple[WeightRow, ...]:
    """The ``most`` measured weights furthest from their random edge, in the model's order."""
    measured = [row for row in weights if row.spectral_norm and row.spectral_norm.value > 0]

    def distance(row: WeightRow) -> float:
        edge = decades(row.random_edge)
        point = to_point(0, row.spectral_norm)
        return abs(point.value - edge) if point and edge is not None else 0.0

    kept = {id(row) for row in sorted(measured, key=distance, reverse=True)[:most]}
    return tuple(row for row in measured if id(row) in kept)
