"""What becomes of the samples on their way through the net: one share per call, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradaudit.records import AttentionRow, ModuleRow
from gradaudit.reports.marks import Point, along, note_style, series
from gradaudit.reports.numbers import number, percent
from gradaudit.reports.plotting import NARROW, Canvas, Span, canvas, linear_ticks
from gradaudit.reports.svg import INKS

_PANEL, _FOOT, _GAP = 150, 44, 58  # pixels


@dataclass(frozen=True)
class Panel:
    """One quantity between ``low`` and 1, a point per place."""

    heading: str
    points: list[Point]
    low: float = 0.0


def activations(rows: Sequence[ModuleRow], *, width: float, prefix: str) -> str:
    """Effective rank as a share of what is possible, and correlation between samples."""
    ranks, correlations = rank_shares(rows), _correlations(rows)
    low = -1.0 if any(p.value < -0.1 for p in correlations) else 0.0
    panels = [
        Panel("Effective rank, as a share of the largest possible", ranks),
        Panel("Mean cosine between two samples' outputs", correlations, low),
    ]
    places = 1 + max((int(p.x) for panel in panels for p in panel.points), default=0)
    words = [_ends("Effective rank share", ranks), _ends("Correlation", correlations)]
    return _stacked(
        [panel for panel in panels if panel.points],
        places,
        "module call (input → output)",
        title="Rank and correlation of the activations by depth",
        words=" ".join(filter(None, words)),
        width=width,
        prefix=prefix,
    )


def attention(rows: Sequence[AttentionRow], *, width: float, prefix: str) -> str:
    """Entropy of the attention weights of each call, and of its most concentrated head."""
    mean = [
        _share(i, row.entropy.value, row.entropy.low, row.entropy.high)
        for i, row in enumerate(rows)
        if row.entropy
    ]
    lowest = [
        _share(i, row.lowest_entropy, hollow=True)
        for i, row in enumerate(rows)
        if row.lowest_entropy is not None
    ]
    known = [p.value for p in mean]
    return _stacked(
        [Panel("Attention entropy, as a share of ln(keys allowed)", [*mean, *lowest])],
        len(rows),
        "attention call (input → output)",
        title="Attention entropy by call",
        words=f"Between {percent(min(known))} and {percent(max(known))} of the largest possible."
        if known
        else "",
        width=width,
        prefix=prefix,
    )


def has_depth(rows: Sequence[ModuleRow]) -> bool:
    """Whether rank or correlation is known anywhere."""
    return bool(rank_shares(rows) or _correlations(rows))


def rank_shares(rows: Sequence[ModuleRow]) -> list[Point]:
    """Effective rank over the largest that samples and units allow, where both are known."""
    return [
        _share(i, row.effective_rank / row.rank_limit)
        for i, row in enumerate(rows)
        if row.effective_rank is not None and row.rank_limit
    ]


def _correlations(rows: Sequence[ModuleRow]) -> list[Point]:
    return [
        _share(i, row.sample_correlation)
        for i, row in enumerate(rows)
        if row.sample_correlation is not None
    ]


def _share(
    place: int,
    value: float,
    low: float | None = None,
    high: float | None = None,
    hollow: bool = False,
) -> Point:
    return Point(
        place, value, value if low is None else low, value if high is None else high, hollow
    )


def _stacked(
    panels: Sequence[Panel],
    places: int,
    axis: str,
    *,
    title: str,
    words: str,
    width: float,
    prefix: str,
) -> str:
    height = _FOOT + _PANEL * len(panels) + _GAP * (len(panels) - 1) * 0.5
    with canvas(width, height) as page:
        for i, panel in enumerate(panels):
            top = i * (_PANEL + _GAP * 0.5)
            page.heading(panel.heading, top=top)
            _panel(page, panel, top + 26, height - top - _PANEL, places, last=panel is panels[-1])
        page.figure.text(0.5, 4 / page.height, axis, ha="center", **note_style())
        return page.finish(prefix=prefix, title=title, description=words)


def _panel(
    page: Canvas, panel: Panel, top: float, bottom: float, places: int, *, last: bool
) -> None:
    axes = page.axes(left=48, right=12, top=top, bottom=bottom)
    axes.set_ylim(panel.low - 0.05, 1.08)
    axes.set_yticks(*linear_ticks(Span(panel.low, 1.0), 4))
    axes.spines["bottom"].set_visible(False)
    axes.axhline(0, color=INKS["muted"], linewidth=1)
    full = [p for p in panel.points if not p.hollow]
    series(axes, full, joined=len(full) > 1)
    series(axes, [p for p in panel.points if p.hollow], joined=False)
    along(axes, places, narrow=page.width < NARROW)
    axes.tick_params(labelbottom=last)


def _ends(name: str, points: Sequence[Point]) -> str:
    if not points:
        return ""
    return f"{name} from {number(points[0].value)} to {number(points[-1].value)}."
