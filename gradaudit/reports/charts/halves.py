"""Where activations and gradients lie in the range that a half-precision format can hold."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import Precision
from gradaudit.reports import ladder
from gradaudit.reports.marks import Point, decades, upright
from gradaudit.reports.numbers import number
from gradaudit.reports.plotting import canvas
from gradaudit.reports.svg import INKS

# Smallest and largest magnitude that is neither flushed to zero nor infinite (IEEE 754; bfloat16
# keeps float32's exponent): subnormals of both are counted in.
RANGES = {"fp16": (2.0**-24, 65504.0), "bf16": (2.0**-133, 3.3895e38)}
_ROW, _TOP = 34, 24  # pixels


def sizes(precision: Precision) -> tuple[tuple[str, float], ...]:
    """The largest magnitudes there are, by name."""
    forward = [r.largest_activation for r in precision.formats if r.largest_activation]
    backward = [r.largest_gradient for r in precision.formats if r.largest_gradient]
    found = []
    if forward:
        found.append(("largest activation", max(forward)))
    if backward:
        found.append(("largest gradient", max(backward)))
        if precision.loss_scale:
            scaled = max(backward) * precision.loss_scale
            found.append(("× loss scale", scaled))
    return tuple(found)


def draw(
    rows: Sequence[tuple[str, float]], formats: Sequence[str], *, width: float, prefix: str
) -> str:
    """A bar per format (cut at the drawing's edge, where it reaches beyond) and a dot per size."""
    held = [(name, RANGES[name]) for name in formats if name in RANGES]
    values = [x for _, value in rows if (x := decades(value)) is not None]
    low, high = (decades(edge) or 0.0 for edge in RANGES["fp16"])
    reach = [*values, low - 1, high + 1]
    names = [f"{name} holds" for name, _ in held] + [name for name, _ in rows]
    with canvas(width, ladder.height(len(names), _ROW, _TOP)) as page:
        axes = ladder.ladder(page, names, reach, top=_TOP, pad=0.04)
        left, right = axes.get_xlim()
        for i, (_, edges) in enumerate(held):
            ends = [decades(edge) or 0.0 for edge in edges]
            axes.hlines(-i, max(left, ends[0]), min(right, ends[1]), color=INKS["band"], lw=9)
        for i, (_, value) in enumerate(rows, len(held)):
            place = decades(value) or 0.0
            point = Point(-i, place, place, place)
            ladder.dots(axes, [point], INKS["series" if place <= high else "bad"])
            ladder.says(axes, point, number(value))
        if "fp16" in formats:
            upright(axes, high, "fp16 overflows at 65,504", lift=16)
        return page.finish(
            prefix=prefix,
            title="Range of half precision",
            description="; ".join(f"{name}: {number(value)}" for name, value in rows) + ".",
        )
