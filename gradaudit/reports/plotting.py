"""The drawing kit under the charts: a figure in pixels, axes in decimal logarithms, few ticks.

Matplotlib is imported here only, and only when a chart is drawn. Figures are built without pyplot,
so nothing process-wide is kept.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradaudit.reports import svg
from gradaudit.reports.numbers import number, superscript
from gradaudit.reports.svg import INKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, SMALL, HEADING = 12.5, 12, 13.5  # pixels
NARROW = 480  # below this width there is room for fewer ticks and shorter names
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
    "svg.hashsalt": "gradaudit",
    "text.parse_math": False,  # a dollar sign in a layer's name is a dollar sign
    "font.family": "DejaVu Sans",  # matplotlib's own: the layout is the same everywhere
    "font.size": TEXT,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Span:
    """The range of an axis."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], *, least: float, pad: float = 0.06) -> Span:
        """Holds all values with ``pad`` of the range to spare, and is at least ``least`` wide."""
        low, high = min(values), max(values)
        missing = max(0.0, least - (high - low)) / 2
        room = pad * max(high - low, least)
        return cls(low - missing - room, high + missing + room)


@dataclass(frozen=True)
class Canvas:
    """A figure whose coordinates are CSS pixels."""

    figure: Figure
    width: float
    height: float

    def axes(self, *, left: float, right: float, top: float, bottom: float) -> Axes:
        """Axes with the given margins to the figure's edges, in pixels."""
        box = (
            left / self.width,
            bottom / self.height,
            (self.width - left - right) / self.width,
            (self.height - top - bottom) / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.patch.set_visible(False)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(INKS["grid"])
        axes.tick_params(length=0, pad=6, labelsize=SMALL, labelcolor=INKS["muted"])
        axes.grid(axis="y", color=INKS["grid"], linewidth=1)
        axes.set_axisbelow(True)
        return axes

    def heading(self, text: str, *, top: float) -> None:
        """What an axis shows, written flat above it: nobody reads sideways."""
        self.figure.text(
            0, 1 - top / self.height, text, color=INKS["ink"], fontsize=HEADING, va="top"
        )

    def finish(self, *, prefix: str, title: str, description: str) -> str:
        """The drawing as an inline SVG element."""
        text = io.StringIO()
        with warnings.catch_warnings():
            # The reader's font draws the glyphs; matplotlib's own may lack them.
            warnings.filterwarnings("ignore", message=r"Glyph \d+")
            self.figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
        return svg.inline(text.getvalue(), prefix=prefix, title=title, description=description)


@contextmanager
def canvas(width: float, height: float) -> Iterator[Canvas]:
    """A figure of ``width`` by ``height`` CSS pixels; matplotlib's settings are restored after."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        yield Canvas(Figure(figsize=(width / 72, height / 72)), width, height)


def log_ticks(span: Span, most: int) -> tuple[list[float], list[str]]:
    """At most ``most`` ticks for an axis in decimal logarithms, with their labels."""
    if span.high - span.low < 2:
        return _fine_log_ticks(span, most)
    step = _round_step((span.high - span.low) / most)
    first = math.ceil(span.low / step)
    places = [step * i for i in range(first, math.floor(span.high / step) + 1)]
    return [float(p) for p in places], [_power_label(p) for p in places]


def linear_ticks(span: Span, most: int, *, whole: bool = False) -> tuple[list[float], list[str]]:
    """At most ``most`` round ticks inside ``span``; only whole numbers if ``whole``."""
    width = span.high - span.low
    step = 10.0 ** math.floor(math.log10(width / most))
    step *= next(m for m in (1, 2, 5, 10, 20) if width / (step * m) <= most)
    if whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(span.low / step - 1e-9)
    last = math.floor(span.high / step + 1e-9)
    places = [step * i for i in range(first, last + 1)]
    return places, [number(round(p, 12)) for p in places]


def _fine_log_ticks(span: Span, most: int) -> tuple[list[float], list[str]]:
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        values = [
            m * 10.0**e
            for e in range(math.floor(span.low), math.ceil(span.high) + 1)
            for m in mantissas
            if span.low <= math.log10(m) + e <= span.high
        ]
        if len(values) <= most:
            break
    return [math.log10(v) for v in values], [number(v) for v in values]


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 3, 5, 10, 20, 30, 50, ... that is not below ``least``."""
    scale = 10 ** max(0, math.floor(math.log10(least))) if least > 0 else 1
    return next(m * scale for m in (1, 2, 3, 5, 10) if m * scale >= least)


def _power_label(exponent: float) -> str:
    return {0: "1", 1: "10"}.get(int(exponent), f"10{superscript(int(exponent))}")
