"""Module calls, parameters and the sample's tensors as tables."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import DataRow, Estimate, ModuleRow, ParameterRow
from gradaudit.reports.numbers import figures
from gradaudit.reports.tables import cells
from gradaudit.reports.tables.cells import Cell, Column, Table

_ALIKE = 0.95  # mean cosine at which samples can hardly be told apart: such cells are marked


def modules(rows: Sequence[ModuleRow]) -> Table:
    """What each module call gave out, and how much of it no longer reacts."""
    columns = (
        Column("Module", "name"),
        Column("Type", "text"),
        Column("Output rms"),
        Column("Gradient rms", help="of the loss's derivative with respect to the output"),
        Column("Dead", help="units that are zero on the whole batch"),
        Column("Saturated", help="outputs where the nonlinearity is flat"),
        Column("Effective rank", help="how many directions the samples' outputs spread over"),
        Column("Sample cosine", help="mean cosine between two samples' outputs: 1 is no telling"),
    )

    def oddness(row: ModuleRow) -> float:
        flat = max(row.dead_fraction or 0.0, row.saturated_fraction or 0.0)
        return max(flat, row.sample_correlation or 0.0)

    kept, note = cells.furthest(rows, oddness)
    return cells.slim(Table("Activations", columns, tuple(_module(row) for row in kept), note))


def parameters(rows: Sequence[ParameterRow]) -> Table:
    """The real loss's gradient at each parameter."""
    columns = (
        Column("Parameter", "name"),
        Column("Weight norm"),
        Column("Gradient norm"),
        Column("Update / weight", help="size of the recipe's first step over that of the weight"),
        Column("State", "text"),
    )

    def oddness(row: ParameterRow) -> float:
        return _far(row.gradient_norm) + 1e9 * (not row.connected)

    kept, note = cells.furthest(rows, oddness)
    return cells.slim(Table("Parameters", columns, tuple(_parameter(row) for row in kept), note))


def data(rows: Sequence[DataRow]) -> Table:
    """Scale of the sample's tensors."""
    columns = (
        Column("Tensor", "name"),
        Column("Type", "text"),
        Column("Shape", "text"),
        Column("Mean"),
        Column("Std"),
        Column("Smallest"),
        Column("Largest"),
    )
    listed = (
        (
            cells.name(row.tensor),
            cells.text(row.dtype),
            cells.text(cells.shape(row.shape)),
            *(Cell(figures(value)) for value in (row.mean, row.std, row.minimum, row.maximum)),
        )
        for row in rows
    )
    return Table("Data", columns, tuple(listed))


def _module(row: ModuleRow) -> tuple[Cell, ...]:
    rank, alike = row.effective_rank, row.sample_correlation
    possible = f"of {row.rank_limit}" if row.rank_limit else ""
    return (
        cells.call(row.module, row.call),
        cells.text(row.type),
        cells.value(row.output_rms),
        cells.value(row.gradient_rms),
        cells.share(row.dead_fraction),
        cells.share(row.saturated_fraction),
        Cell(figures(rank), possible) if rank is not None else cells.none(),
        Cell(figures(alike), alert=alike >= _ALIKE) if alike is not None else cells.none(),
    )


def _parameter(row: ParameterRow) -> tuple[Cell, ...]:
    state = "trains" if row.trainable else "frozen"
    return (
        cells.name(row.parameter),
        cells.value(row.weight_norm),
        cells.estimate(row.gradient_norm),
        cells.estimate(row.update_ratio),
        cells.text(state) if row.connected else Cell("not reached by the loss", "", "text", True),
    )


def _far(estimate: Estimate | None) -> float:
    """How far from one, in either direction."""
    if estimate is None:
        return 0.0
    size = abs(estimate.value)
    return max(size, 1 / size) if size > 0 else 1e12
