"""Attention calls as a table, and heads as a map: the larger a norm, the stronger its colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from gradaudit.records import AttentionRow, Estimate, HeadRow
from gradaudit.reports.numbers import figures, percent
from gradaudit.reports.tables import cells
from gradaudit.reports.tables.cells import Cell, Column, Table

_HEADS_SHOWN = 16  # columns; with more heads a row sums its module up
_SHADES = 5  # classes heat0 ... heat4 of the style sheet
_EVEN = math.log10(1.5)  # decades: norms within a factor of 1.5 are all the same


def calls(rows: Sequence[AttentionRow]) -> Table:
    """Where each attention call looks."""
    columns = (
        Column("Attention", "name"),
        Column("Heads"),
        Column("Queries × keys", "text"),
        Column("Entropy", help="of the attention weights, as a share of ln(keys allowed)"),
        Column("Lowest head", help="the head that looks at the fewest keys"),
        Column("Largest logit", help="before the softmax, in absolute value"),
        Column("Masked queries", help="queries that may look at no key at all"),
    )

    def oddness(row: AttentionRow) -> float:
        lowest = 1.0 if row.lowest_entropy is None else row.lowest_entropy
        return row.masked_queries - lowest

    kept, note = cells.furthest(rows, oddness)
    return cells.slim(Table("Attention", columns, tuple(_call(row) for row in kept), note))


def qk(rows: Sequence[HeadRow]) -> Table | None:
    """Spectral norms of what the heads compare."""
    return _heads(rows, "QK norm per head", lambda row: row.qk)


def ov(rows: Sequence[HeadRow]) -> Table | None:
    """Spectral norms of what the heads move."""
    return _heads(rows, "OV norm per head", lambda row: row.ov)


def _call(row: AttentionRow) -> tuple[Cell, ...]:
    lowest = cells.none()
    if row.lowest_entropy is not None:
        head = "" if row.lowest_head is None else f"head {row.lowest_head}"
        lowest = Cell(percent(row.lowest_entropy), head)
    return (
        cells.call(row.module, row.call),
        Cell(str(row.heads)),
        cells.text(f"{row.queries} × {row.keys}"),
        cells.estimated_share(row.entropy),
        lowest,
        cells.value(row.largest_logit),
        Cell(str(row.masked_queries), alert=True) if row.masked_queries else cells.none(),
    )


def _heads(
    rows: Sequence[HeadRow], caption: str, norm: Callable[[HeadRow], Estimate | None]
) -> Table | None:
    """A row per module and a column per head; ``None`` where no head was measured."""
    modules: dict[str, dict[int, Estimate]] = {}
    for row in rows:
        if measured := norm(row):
            modules.setdefault(row.module, {})[row.head] = measured
    if not modules:
        return None
    most = 1 + max(head for heads in modules.values() for head in heads)
    kept, note = cells.furthest(list(modules.items()), lambda item: _largest(item[1]).value)
    if most > _HEADS_SHOWN:
        return _summed(caption, kept, note)
    shade = _shades([e.value for _, heads in kept for e in heads.values()])
    columns = (Column("Attention", "name"), *(Column(str(head)) for head in range(most)))
    lines = tuple(
        (cells.name(module), *(_shaded(heads.get(head), shade) for head in range(most)))
        for module, heads in kept
    )
    return Table(caption, columns, lines, note)


def _summed(caption: str, items: Sequence[tuple[str, dict[int, Estimate]]], note: str) -> Table:
    columns = tuple(
        map(Column, ("Attention", "Heads", "Median", "Largest", "Head"), ("name", *["number"] * 4))
    )
    lines = []
    for module, heads in items:
        largest = _largest(heads)
        where = next(head for head, measured in heads.items() if measured is largest)
        middle = median(measured.value for measured in heads.values())
        lines.append(
            (
                cells.name(module),
                Cell(str(len(heads))),
                Cell(figures(middle)),
                cells.estimate(largest),
                Cell(str(where)),
            )
        )
    return Table(caption, columns, tuple(lines), note)


def _largest(heads: dict[int, Estimate]) -> Estimate:
    return max(heads.values(), key=lambda measured: measured.value)


def _shaded(measured: Estimate | None, shade: Callable[[float], int]) -> Cell:
    if measured is None:
        return cells.none()
    return Cell(figures(measured.value), "", f"number heat{shade(measured.value)}")


def _shades(values: Sequence[float]) -> Callable[[float], int]:
    """Equal steps in the logarithm, from the smallest to the largest positive value."""
    logs = [math.log10(value) for value in values if value > 0]
    low, high = min(logs, default=0.0), max(logs, default=0.0)

    def shade(value: float) -> int:
        if value <= 0 or high - low < _EVEN:
            return 0
        return min(_SHADES - 1, int(_SHADES * (math.log10(value) - low) / (high - low)))

    return shade
