"""Small charts of one number over steps: through time, over training, over learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradaudit.records import RateRange, RecurrentRow
from gradaudit.reports.marks import beside, line, note_style, upright
from gradaudit.reports.numbers import number
from gradaudit.reports.plotting import Span, canvas, log_ticks
from gradaudit.reports.svg import INKS
from gradaudit.reports.text import shorten


def profile(row: RecurrentRow, *, width: float, prefix: str) -> str:
    """Size of the last output's derivative with respect to each time step's input."""
    reached = [(t, math.log10(rms)) for t, rms in row.profile if rms > 0]
    lost = [t for t, rms in row.profile if rms <= 0]
    with canvas(width, 230) as page:
        page.heading("Gradient that arrives at each time step", top=0)
        axes = page.axes(left=52, right=14, top=26, bottom=44)
        steps = [t for t, _ in row.profile]
        line(axes, reached, steps=steps, log=True, words="time step")
        if lost:
            text = f"exactly 0 at {len(lost)} of {len(steps)} steps"
            axes.axvspan(min(lost), max(lost), color=INKS["zone"], linewidth=0)
            axes.annotate(text, (0.98, 0.06), xycoords="axes fraction", ha="right", **note_style())
        elif row.horizon is not None and 0 < row.horizon < row.steps:
            upright(axes, max(steps) - row.horizon, f"below 1%, {row.horizon} steps back")
        return page.finish(
            prefix=prefix,
            title=f"Gradient through time of {shorten(row.module, 60)}",
            description=_profile_words(row),
        )


def curve(
    values: Sequence[float],
    *,
    heading: str,
    levels: Sequence[tuple[float, str]] = (),
    broken: str = "",
    width: float,
    prefix: str,
) -> str:
    """A number over training steps, with named level lines.

    Logarithmic where all is positive and spans more than a factor of 50; ``broken`` marks the end
    as the place where numbers stopped being finite.
    """
    everything = [*values, *(level for level, _ in levels)]
    log = min(everything) > 0 and max(everything) > 50 * min(everything)
    scale = math.log10 if log else float
    points = [(step, scale(value)) for step, value in enumerate(values)]
    with canvas(width, 230) as page:
        page.heading(heading, top=0)
        axes = page.axes(left=52, right=14, top=26, bottom=44)
        marks = [(scale(level), text) for level, text in levels]
        line(axes, points, steps=[s for s, _ in points], log=log, words="step", levels=marks)
        if broken:
            axes.plot(*points[-1], "X", color=INKS["bad"], markersize=9, clip_on=False)
            beside(axes, points[-1], broken, INKS["bad"])
        return page.finish(
            prefix=prefix,
            title=heading,
            description=f"From {number(values[0])} to {number(values[-1])} "
            f"over {len(values)} steps. {broken}".strip(),
        )


def rates(row: RateRange, *, width: float, prefix: str) -> str:
    """The loss as the learning rate rises (Smith 2017, arXiv 1506.01186)."""
    pairs = list(zip(row.rates, row.losses, strict=False))
    losses = [loss for _, loss in pairs]
    log = min(losses) > 0 and max(losses) > 50 * min(losses)
    points = [(math.log10(r), math.log10(v) if log else v) for r, v in pairs if r > 0]
    heading = "Loss while the learning rate rises"
    with canvas(width, 230) as page:
        page.heading(heading, top=0)
        axes = page.axes(left=52, right=14, top=26, bottom=44)
        line(axes, points, steps=[x for x, _ in points], log=log, words="learning rate")
        span = Span(*axes.get_xlim())
        axes.set_xticks(*log_ticks(span, 4))
        if row.ceiling:
            upright(axes, math.log10(row.ceiling), f"ceiling {number(row.ceiling)}")
        return page.finish(
            prefix=prefix,
            title=heading,
            description=f"Rates from {number(min(row.rates))} to {number(max(row.rates))}.",
        )


def _profile_words(row: RecurrentRow) -> str:
    if not row.profile:
        return "No profile."
    first, last = row.profile[0][1], row.profile[-1][1]
    return f"From {number(last)} at the last step to {number(first)} at the first."
