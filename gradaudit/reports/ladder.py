"""Named rows over one axis in decimal logarithms: what a person compares line by line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradaudit.reports.marks import Point
from gradaudit.reports.plotting import NARROW, TEXT, Canvas, Span, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER = 7.3  # pixels: one letter of a row's name
_MARGIN = 34  # pixels above and below the rows


def height(rows: int, row: float, top: float = 6) -> float:
    """Pixels that ``rows`` rows of ``row`` pixels take with their axis."""
    return top + _MARGIN - 6 + row * rows


def ladder(
    page: Canvas,
    names: Sequence[str],
    reach: Iterable[float],
    *,
    mono: bool = False,
    top: float = 6,
    pad: float = 0.06,
    right: float = 14,
) -> Axes:
    """Axes whose row ``i`` lies at height ``-i``; ``reach`` holds the logarithms to show.

    ``right`` is the room to the drawing's edge, in pixels.
    """
    narrow = page.width < NARROW
    shown = [shorten(name, 18 if narrow else 34) for name in names]
    axes = page.axes(left=8 + _LETTER * max(map(len, shown)), right=right, top=top, bottom=28)
    span = Span.around(list(reach), least=1, pad=pad)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=INKS["grid"], linewidth=1)
    axes.set_xticks(*log_ticks(span, 4 if narrow else 6))
    axes.set(ylim=(-len(names) + 0.4, 0.6), xlim=(span.low, span.high))
    family = "DejaVu Sans Mono" if mono else "DejaVu Sans"
    axes.set_yticks([-i for i in range(len(names))], shown, family=family)
    axes.tick_params(axis="y", labelcolor=INKS["ink"])
    return axes


def dots(axes: Axes, points: Sequence[Point], ink: str = INKS["series"]) -> None:
    """A dot with its interval per point; ``Point.x`` is the row's height."""
    heights = [p.x for p in points]
    axes.hlines(heights, [p.low for p in points], [p.high for p in points], color=ink, linewidth=2)
    axes.plot([p.value for p in points], heights, "o", color=ink, markersize=6)


def says(axes: Axes, point: Point, text: str) -> None:
    """A number above its dot, kept inside the drawing at both ends."""
    left, right = axes.get_xlim()
    share = (point.value - left) / (right - left)
    side = "left" if share < 0.12 else "right" if share > 0.88 else "center"
    axes.annotate(
        text,
        (point.value, point.x),
        xytext=(0, 6),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=INKS["ink"],
        fontsize=TEXT,
        fontweight="bold",
    )
