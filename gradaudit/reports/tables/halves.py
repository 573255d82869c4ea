"""What each half-precision format would do to the run, as a table."""

from __future__ import annotations

from gradaudit.records import HalfRow, Precision
from gradaudit.reports.tables import cells
from gradaudit.reports.tables.cells import Cell, Column, Table
from gradaudit.reports.text import plural

_NAMED = 2  # modules named before the rest is counted


def table(precision: Precision) -> Table:
    """One row per format."""
    columns = (
        Column("Format", "text"),
        Column("Overflows in", "text", "modules whose output would be infinite"),
        Column("Gradients lost", help="share of nonzero gradients that round to zero, unscaled"),
        Column("Most in", "text", "the module that loses most of them"),
        Column("When scaled", help="the same at the loss scale"),
        Column("Updates lost", help="share of weights whose step rounds away in pure half"),
        Column("Adam's eps", "text", "whether the recipe's eps is zero in this format"),
    )
    rows = tuple(_half(row, asked=row.format == precision.judged) for row in precision.formats)
    return cells.slim(Table("Half precision", columns, rows))


def _half(row: HalfRow, *, asked: bool) -> tuple[Cell, ...]:
    return (
        cells.text(row.format, "your recipe" if asked else ""),
        _overflow(row),
        cells.estimated_share(row.underflow),
        cells.text(row.underflow_at),
        cells.estimated_share(row.underflow_scaled),
        cells.estimated_share(row.lost_updates),
        _eps(row),
    )


def _overflow(row: HalfRow) -> Cell:
    if not row.overflows_in:
        return cells.text("nowhere" if row.largest_activation is not None else "")
    left = len(row.overflows_in) - _NAMED
    asides = [f"and {plural(left, 'more module')}"] if left > 0 else []
    harmless = row.overflow_spreads is False
    asides += ["without changing the loss"] * harmless
    return Cell(", ".join(row.overflows_in[:_NAMED]), ", ".join(asides), "text", not harmless)


def _eps(row: HalfRow) -> Cell:
    if row.eps_flushed is None:
        return cells.text("")
    return Cell("becomes 0", "", "text", True) if row.eps_flushed else cells.text("kept")
