"""Every learning rate the audit came across on one axis."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import Estimate, Measurements
from gradaudit.reports import ladder
from gradaudit.reports.marks import to_point, upright
from gradaudit.reports.numbers import number
from gradaudit.reports.plotting import canvas

_ROW, _TOP = 36, 24  # pixels
_UNIT = "learning rate"


def known(m: Measurements) -> tuple[tuple[str, Estimate], ...]:
    """The rates there are, by name; the recipe's, or the audit's own where it gives none, first."""
    found: list[tuple[str, float | Estimate | None]] = []
    if m.recipe.lr:
        found.append(("your recipe", m.recipe.lr))
    elif m.rehearsal and m.rehearsal.rates:
        found.append(("in the rehearsal", max(m.rehearsal.rates)))
    if m.rate_range:
        found.append(("loss falls fastest", m.rate_range.steepest))
        found.append(("loss leaves course", m.rate_range.ceiling))
    if m.curvature:
        found.append(("curvature bears", m.curvature.rate_ceiling))
    return tuple(
        (name, rate if isinstance(rate, Estimate) else Estimate.exact(rate, _UNIT))
        for name, rate in found
        if rate is not None and (rate.value if isinstance(rate, Estimate) else rate) > 0
    )


def draw(rates: Sequence[tuple[str, Estimate]], *, width: float, prefix: str) -> str:
    """One row per rate, and a line through the first: the one the others are compared with."""
    places = ((name, rate, to_point(-i, rate)) for i, (name, rate) in enumerate(rates))
    rows = [(name, rate, point) for name, rate, point in places if point]
    points = [point for _, _, point in rows]
    with canvas(width, ladder.height(len(rows), _ROW, _TOP)) as page:
        reach = [x for p in points for x in (p.low, p.value, p.high)]
        axes = ladder.ladder(page, [name for name, _, _ in rows], reach, top=_TOP, pad=0.1)
        ladder.dots(axes, points)
        for _, rate, point in rows[1:]:
            ladder.says(axes, point, number(rate.value))
        first = rows[0]
        upright(axes, points[0].value, f"{first[0]}: {number(first[1].value)}", lift=16)
        return page.finish(
            prefix=prefix,
            title="Learning rates compared",
            description="; ".join(f"{name}: {number(rate.value)}" for name, rate, _ in rows) + ".",
        )
