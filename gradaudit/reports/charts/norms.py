"""Where the gradient norms lie, and what a clip would take off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradaudit.records import GradientNorm, Measurements
from gradaudit.reports import ladder
from gradaudit.reports.marks import Point, decades, upright
from gradaudit.reports.numbers import number
from gradaudit.reports.plotting import canvas
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _TOP = 42, 40  # pixels


def draw(m: Measurements, norm: GradientNorm, *, width: float, prefix: str) -> str:
    """Quantiles over batches above, each rehearsal step as a dot below, clips as lines."""
    quantiles = (norm.median, norm.p90, norm.p95, norm.max)
    batches = [x for q in quantiles if (x := decades(q)) is not None]
    steps = [x for n in _steps(m) if (x := decades(n)) is not None]
    clips = _clips(m, norm)
    names = [plural(norm.batches, "batch")] + ["rehearsal"] * bool(steps)
    reach = batches + steps + [place for place, _ in clips]
    with canvas(width, ladder.height(len(names), _ROW, _TOP)) as page:
        axes = ladder.ladder(page, names, reach or [0.0], top=_TOP, pad=0.1)
        _dots(axes, batches, steps)
        for i, (place, text) in enumerate(clips):
            upright(axes, place, text, lift=34 - 17 * i)
        return page.finish(
            prefix=prefix,
            title="Distribution of the gradient norm",
            description=f"Median {number(norm.median)}, 90th percentile {number(norm.p90)}, "
            f"largest {number(norm.max)}; " + "; ".join(text for _, text in clips),
        )


def _steps(m: Measurements) -> Sequence[float]:
    return m.rehearsal.gradient_norms if m.rehearsal else ()


def _clips(m: Measurements, norm: GradientNorm) -> list[tuple[float, str]]:
    """The recipe's threshold and the measured one, in decimal logarithms, with their names."""
    named = ((m.recipe.clip_norm, "your clip"), (norm.clip_threshold, "measured clip"))
    found = ((decades(value), f"{name} {number(value)}") for value, name in named if value)
    return [(place, text) for place, text in found if place is not None]


def _dots(axes: Axes, batches: Sequence[float], steps: Sequence[float]) -> None:
    if batches:
        axes.hlines(0, batches[0], batches[-1], color=INKS["band"], linewidth=7)
        axes.plot(batches[1:], [0] * (len(batches) - 1), "|", color=INKS["muted"], ms=14, mew=2)
        middle = Point(0, batches[0], batches[0], batches[0])
        ladder.dots(axes, [middle])
        ladder.says(axes, middle, "median")
    if steps:
        axes.plot(steps, [-1] * len(steps), "o", color=INKS["series"], ms=5, alpha=0.55, mew=0)
