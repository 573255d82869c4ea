"""What charts are made of: points with bounds, lines with their values beside them, levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from gradaudit.records import Estimate
from gradaudit.reports.plotting import SMALL, TEXT, Span, linear_ticks, log_ticks
from gradaudit.reports.svg import INKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BINS = 160  # points past twice this are drawn in bins: a dot needs two pixels


@dataclass(frozen=True)
class Point:
    """A place in a chart: the decimal logarithm of a number and its bounds."""

    x: float
    value: float
    low: float
    high: float
    hollow: bool = False


@dataclass(frozen=True)
class Look:
    """How a series is drawn: colour is never the only difference."""

    ink: str = INKS["series"]
    band: str = INKS["band"]
    marker: str = "o"
    dashes: tuple[float, float] | None = None


MEASURED = Look()
AFTER = Look(INKS["after"], INKS["after-band"], "s", (4, 2))  # after the changes


def series(axes: Axes, points: list[Point], *, joined: bool = True, look: Look = MEASURED) -> None:
    """Dots with error bars; a band from smallest to largest where there are too many for dots."""
    stroke: dict[str, Any] = {"color": look.ink, "linewidth": 2}
    if look.dashes:
        stroke["dashes"] = look.dashes
    if len(points) > 2 * BINS:
        x, low, mid, high = _binned(points)
        axes.fill_between(x, low, high, color=look.band, linewidth=0)
        axes.plot(x, mid, **stroke)
        return
    bars = [p for p in points if p.low < p.high]
    low, high = [p.low for p in bars], [p.high for p in bars]
    axes.vlines([p.x for p in bars], low, high, color=look.ink, linewidth=1.5)
    if joined:
        axes.plot([p.x for p in points], [p.value for p in points], **stroke)
    size = 6 if len(points) <= 60 else 3
    for hollow, face in ((False, look.ink), (True, INKS["surface"])):
        some = [p for p in points if p.hollow is hollow]
        axes.plot(
            [p.x for p in some],
            [p.value for p in some],
            look.marker,
            color=look.ink,
            markerfacecolor=face,
            markersize=size,
            mew=1.5,
        )


def along(axes: Axes, places: int, *, narrow: bool) -> None:
    """The axis of a chain of stages or calls, numbered from zero."""
    room = max(0.5, 0.02 * places)
    axes.set_xlim(-room, max(places - 1, 0) + room)
    span = Span(0, max(places - 1, 1))
    axes.set_xticks(*linear_ticks(span, 4 if narrow else 8, whole=True))


def line(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    *,
    steps: Sequence[float],
    log: bool,
    words: str,
    levels: Sequence[tuple[float, str]] = (),
) -> None:
    """A line over steps, its last value written beside it."""
    heights = [y for _, y in points] + [y for y, _ in levels] or [0.0]
    least = 1.0 if log else max(1e-9, 0.2 * max(abs(y) for y in heights)) or 1.0
    span = Span.around(heights, least=least, pad=0.14)
    axes.set_ylim(span.low, span.high)
    axes.set_yticks(*(log_ticks if log else linear_ticks)(span, 4))
    across = Span.around(steps, least=1e-6 if len(steps) > 1 else 1, pad=0.03)
    axes.set_xlim(across.low, across.high)
    axes.set_xticks(*linear_ticks(Span(min(steps), max(*steps, min(steps) + 1)), 4, whole=True))
    axes.set_xlabel(words, fontsize=SMALL, color=INKS["muted"])
    for height, text in levels:
        level(axes, height, text, late=_freer_late(points, height))
    if points:
        axes.plot(*zip(*points, strict=True), color=INKS["series"], linewidth=2)
        if len(points) <= 60:
            axes.plot(*zip(*points, strict=True), "o", color=INKS["series"], markersize=4)


def _freer_late(points: Sequence[tuple[float, float]], height: float) -> bool:
    """Whether the line keeps further from a height in its last third than in its first."""
    third = max(1, len(points) // 3)
    first, last = (
        min((abs(y - height) for _, y in part), default=0.0)
        for part in (points[:third], points[-third:])
    )
    return last >= first


def level(axes: Axes, height: float, text: str, *, late: bool = True) -> None:
    """A named dashed line at a height, its name at the right end or the left."""
    axes.axhline(height, color=INKS["accent"], linewidth=1.5, dashes=(5, 3))
    axes.annotate(
        text,
        (1 if late else 0, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right" if late else "left",
        va="bottom",
        color=INKS["accent"],
        fontsize=SMALL,
    )


def upright(
    axes: Axes,
    place: float,
    text: str,
    *,
    lift: float = 0,
    late: bool | None = None,
    hangs: bool = True,
) -> None:
    """A named dashed line at a place, its name beside it or ``lift`` pixels above the axes.

    The name ends at the line where that is ``late``, which unless told is in the right half; it
    ``hangs`` from its height, or stands on it.
    """
    if late is None:
        late = place > sum(axes.get_xlim()) / 2
    axes.axvline(place, color=INKS["accent"], linewidth=1.5, dashes=(5, 3))
    axes.annotate(
        text,
        (place, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if late else 5, lift),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top" if hangs else "bottom",
        color=INKS["accent"],
        fontsize=SMALL,
    )


def beside(
    axes: Axes, place: tuple[float, float], text: str, ink: str = INKS["ink"], *, lift: float = 0
) -> None:
    """A label next to a point, ``lift`` pixels above it, on the side where there is room."""
    left, right = axes.get_xlim()
    late = place[0] > (left + right) / 2
    axes.annotate(
        text,
        place,
        xytext=(-8 if late else 8, lift),
        textcoords="offset points",
        ha="right" if late else "left",
        va="center",
        color=ink,
        fontsize=TEXT,
        fontweight="bold",
    )


def to_point(x: float, estimate: Estimate | None, hollow: bool = False) -> Point | None:
    """A positive estimate in decimal logarithms; ``None`` where it has none."""
    if estimate is None or estimate.value <= 0:
        return None
    value = math.log10(estimate.value)
    low, high = decades(estimate.low), decades(estimate.high)
    return Point(x, value, value if low is None else low, value if high is None else high, hollow)


def decades(value: float | None) -> float | None:
    """The decimal logarithm; ``None`` of nothing and of what is not positive."""
    return math.log10(value) if value is not None and value > 0 else None


def note_style() -> dict[str, Any]:
    """How asides are written."""
    return {"color": INKS["muted"], "fontsize": SMALL}


def _binned(points: list[Point]) -> tuple[list[float], list[float], list[float], list[float]]:
    size = math.ceil(len(points) / BINS)
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    return (
        [median(p.x for p in b) for b in bins],
        [min(p.value for p in b) for b in bins],
        [median(p.value for p in b) for b in bins],
        [max(p.value for p in b) for b in bins],
    )
