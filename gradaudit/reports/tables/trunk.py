"""The stages of the trunk as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

from gradaudit.records import Estimate, StageRow
from gradaudit.reports.numbers import figures, interval, power, power_interval
from gradaudit.reports.tables import cells
from gradaudit.reports.tables.cells import Cell, Column, Table

_COLUMNS = (
    Column("Stage"),
    Column("Name", "name"),
    Column("Gain", help="what the gradient's sum of squares is multiplied by, going back"),
    Column("Forward gain", help="the same for a small change of the input, going forward"),
    Column("GSC", help="gradient scale coefficient: gain in units of the activations' size"),
    Column("Singular values", help="of the stage's Jacobian, largest first; not squared"),
    Column("Accumulated norm", help="norm of the output's derivative at the stage's input"),
    Column("Output rms", help="root mean square of the stage's output"),
)


_BLOCKS = 100  # rows where stages are gathered


def table(rows: Sequence[StageRow], marked: Collection[int]) -> Table:
    """One row per stage, or per block of consecutive stages where there are too many."""
    if len(rows) <= cells.ROWS_SHOWN:
        listed = tuple(_stage(row, row.index in marked) for row in rows)
        return cells.slim(Table("Stages", _COLUMNS, listed))
    size = -(-len(rows) // _BLOCKS)
    blocks = [rows[i : i + size] for i in range(0, len(rows), size)]
    note = (
        f"Each row stands for {size} consecutive stages: the median, with the smallest and "
        "largest below. Every stage by itself is in the JSON report."
    )
    folded = tuple(_block(block, marked) for block in blocks)
    return cells.slim(Table("Stages", _COLUMNS, folded, note))


def singular_values(values: Sequence[Estimate]) -> Cell:
    """The largest with its interval, the next three behind it."""
    if not values:
        return cells.none()
    rest = ", ".join(figures(value.value) for value in values[1:4])
    aside = "; ".join(filter(None, (interval(values[0]), f"then {rest}" if rest else "")))
    return Cell(figures(values[0].value), aside)


def _stage(row: StageRow, marked: bool) -> tuple[Cell, ...]:
    norm = row.jacobian_norm_log10
    return (
        Cell(str(row.index), alert=marked),
        cells.name(row.name, "" if row.role == "interior" else row.role),
        cells.estimate(row.backward_gain),
        cells.estimate(row.forward_gain),
        cells.estimate(row.gsc),
        singular_values(row.top_singular_values),
        Cell(power(norm.value), power_interval(norm)) if norm else cells.none(),
        cells.value(row.output_rms),
    )


def _block(rows: Sequence[StageRow], marked: Collection[int]) -> tuple[Cell, ...]:
    first, last = rows[0], rows[-1]
    norms = [row.jacobian_norm_log10.value for row in rows if row.jacobian_norm_log10]
    span = f"{power(min(norms))} – {power(max(norms))}" if norms else ""
    return (
        Cell(f"{first.index}–{last.index}", alert=any(row.index in marked for row in rows)),
        cells.name(f"{first.name} … {last.name}" if first.name != last.name else first.name),
        cells.spread(row.backward_gain.value for row in rows if row.backward_gain),
        cells.spread(row.forward_gain.value for row in rows if row.forward_gain),
        cells.spread(row.gsc.value for row in rows if row.gsc),
        cells.spread(row.top_singular_values[0].value for row in rows if row.top_singular_values),
        Cell(power(median(norms)), span) if norms else cells.none(),
        cells.spread(row.output_rms for row in rows if row.output_rms is not None),
    )
