"""Where the gradient norms lie, and what a clip would take off: histograms over one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradaudit.records import GradientNorm, Measurements
from gradaudit.reports.marks import decades, upright
from gradaudit.reports.numbers import number
from gradaudit.reports.plotting import NARROW, Canvas, Span, canvas, linear_ticks, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL, _GAP, _LINE, _FOOT = 96, 48, 17, 30  # pixels
_BINS, _FEW = 32, 18  # across a wide drawing, across a narrow one
_WIDE_SPREAD = 4.0  # largest over smallest from which the axis is logarithmic
_LETTER = 6.6  # pixels: one letter of a clip's name


@dataclass(frozen=True)
class Norms:
    """Norms of one origin."""

    heading: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class _Scale:
    """The axis that all histograms share."""

    log: bool
    span: Span
    edges: tuple[float, ...]

    def place(self, value: float) -> float:
        return math.log10(value) if self.log else value


def draw(m: Measurements, norm: GradientNorm, *, width: float, prefix: str) -> str:
    """How many batches, and how many rehearsal steps, had a norm of which size; clips as lines.

    Logarithmic where the largest is several times the smallest. What lies beyond the recipe's
    clip, else beyond the measured one, is marked.
    """
    panels, clips = groups(m, norm), _clips(m, norm)
    everything = [v for panel in panels for v in panel.values] + [v for v, _ in clips]
    scale = _scale(everything, narrow=width < NARROW)
    top = 26 + _LINE * len(clips)
    with canvas(width, top + (_PANEL + _GAP) * len(panels) - _GAP + _FOOT) as page:
        for i, panel in enumerate(panels):
            start = (top - 34 if i else 0) + i * (_PANEL + _GAP)
            page.heading(panel.heading, top=start)
            above = top + i * (_PANEL + _GAP)
            axes = page.axes(left=40, right=14, top=above, bottom=page.height - above - _PANEL)
            _bars(axes, panel.values, scale, clips[0][0] if clips else None)
            _across(page, axes, scale, last=panel is panels[-1])
            for k, (value, text) in enumerate(clips):
                lift = _LINE * (len(clips) - k) - 12 if i == 0 else None
                _clip(page, axes, scale.place(value), text, lift)
        return page.finish(
            prefix=prefix,
            title="Distribution of the gradient norm",
            description=_words(norm, panels, clips),
        )


def groups(m: Measurements, norm: GradientNorm) -> tuple[Norms, ...]:
    """The positive norms there are: over batches at the start, and over the rehearsal's steps."""
    steps = m.rehearsal.gradient_norms if m.rehearsal else ()
    found = (
        Norms(f"Batches at the start weights ({norm.batches})", _positive(norm.norms)),
        Norms(f"Steps of the rehearsal ({len(steps)})", _positive(steps)),
    )
    return tuple(each for each in found if each.values)


def _positive(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(v for v in values if v > 0)


def _clips(m: Measurements, norm: GradientNorm) -> list[tuple[float, str]]:
    """The recipe's threshold and the measured one with their names."""
    named = ((m.recipe.clip_norm, "your clip"), (norm.clip_threshold, "measured clip"))
    return [(value, f"{name} {number(value)}") for value, name in named if value]


def _scale(values: Sequence[float], *, narrow: bool) -> _Scale:
    low, high = min(values), max(values)
    log = high > _WIDE_SPREAD * low
    ends = [decades(v) or 0.0 for v in (low, high)] if log else [low, high]
    span = Span.around(ends, least=0.3 if log else 0.2 * high, pad=0.04)
    bins = _FEW if narrow else _BINS
    step = (span.high - span.low) / bins
    return _Scale(log, span, tuple(span.low + step * i for i in range(bins + 1)))


def _bars(axes: Axes, values: Sequence[float], scale: _Scale, clip: float | None) -> None:
    """One bar a bin, what is beyond the clip in another colour on top."""
    low, step = scale.edges[0], scale.edges[1] - scale.edges[0]
    counts = [[0, 0] for _ in scale.edges[1:]]
    for value in values:
        place = min(int((scale.place(value) - low) / step), len(counts) - 1)
        counts[place][clip is not None and value > clip] += 1
    for i, (within, beyond) in enumerate(counts):
        left, width = low + step * (i + 0.06), 0.88 * step
        if within:
            axes.bar(left, within, width, align="edge", color=INKS["series"], linewidth=0)
        if beyond:
            axes.bar(
                left, beyond, width, bottom=within, align="edge", color=INKS["bad"], linewidth=0
            )
    top = max(map(sum, counts))
    axes.set_ylim(0, 1.12 * top)
    axes.set_yticks(*linear_ticks(Span(0, max(top, 1)), 3, whole=True))


def _across(page: Canvas, axes: Axes, scale: _Scale, *, last: bool) -> None:
    axes.set_xlim(scale.span.low, scale.span.high)
    ticks = log_ticks if scale.log else linear_ticks
    axes.set_xticks(*ticks(scale.span, 4 if page.width < NARROW else 8))
    axes.tick_params(labelbottom=last)


def _clip(page: Canvas, axes: Axes, place: float, text: str, lift: float | None) -> None:
    """A dashed line; its name ``lift`` pixels above the axes, on the side where there is room."""
    if lift is None:
        axes.axvline(place, color=INKS["accent"], linewidth=1.5, dashes=(5, 3))
        return
    left, right = axes.get_xlim()
    share = (place - left) / (right - left)
    late = share * (page.width - 54) > _LETTER * len(text) + 10 and share > 0.5
    upright(axes, place, text, lift=lift, late=late, hangs=False)


def _words(norm: GradientNorm, panels: Sequence[Norms], clips: Sequence[tuple[float, str]]) -> str:
    said = [
        f"Median over {plural(norm.batches, 'batch')} {number(norm.median)}, "
        f"90th percentile {number(norm.p90)}, largest {number(norm.max)}"
    ]
    for value, text in clips:
        counts = (f"{sum(v > value for v in p.values)} of {len(p.values)}" for p in panels)
        said.append(f"{text}, passed by {' and '.join(counts)}")
    return "; ".join(said) + "."
