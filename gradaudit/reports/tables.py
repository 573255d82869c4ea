"""Measurements as tables of ready text, folded where a net is too long to list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from gradaudit.records import (
    DataRow,
    Estimate,
    ModuleRow,
    ParameterRow,
    StageRow,
    WeightRow,
)
from gradaudit.reports.numbers import figures, interval, percent, power, power_interval

ROWS_SHOWN = 100
_EMPTY = "–"
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, an aside in smaller type, and whether the text is a name."""

    text: str
    aside: str = ""
    kind: str = "number"  # "number" | "name" | "text"
    alert: bool = False


@dataclass(frozen=True)
class Column:
    """A heading, with what it means where that is not plain."""

    label: str
    kind: str = "number"
    help: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``note`` says what was left out or folded."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def stages(rows: Sequence[StageRow], worst: int | None) -> Table:
    """One row per stage, or per block of consecutive stages where there are too many."""
    columns = (
        Column("Stage"),
        Column("Name", "name"),
        Column("Gain", help="what the gradient's sum of squares is multiplied by, going back"),
        Column("Forward gain", help="the same for a small change of the input, going forward"),
        Column("GSC", help="gradient scale coefficient: gain in units of the activations' size"),
        Column("Accumulated norm", help="norm of the output's derivative at the stage's input"),
        Column("Output rms", help="root mean square of the stage's output"),
    )
    if len(rows) <= ROWS_SHOWN:
        return Table("Stages", columns, tuple(_stage(row, row.index == worst) for row in rows))
    size = -(-len(rows) // ROWS_SHOWN)
    blocks = [rows[i : i + size] for i in range(0, len(rows), size)]
    note = (
        f"Each row stands for {size} consecutive stages: the median, with the smallest and "
        "largest below. Every stage by itself is in the JSON report."
    )
    return Table("Stages", columns, tuple(_block(block, worst) for block in blocks), note)


def weights(rows: Sequence[WeightRow]) -> Table:
    """Spectral norms against what random entries of the same scale would have."""
    columns = (
        Column("Weight", "name"),
        Column("Kind", "text"),
        Column("Shape", "text"),
        Column("Spectral norm", help="the most this weight can stretch any input"),
        Column("Random", help="spectral norm expected of independent entries of the same size"),
        Column("Measured / random"),
        Column("Stable rank", help="how many directions carry the weight's energy"),
        Column("Torch's number", help="what torch.nn.utils.spectral_norm would divide by"),
        Column("Looks like", "text"),
    )
    kept, note = _furthest(rows, _excess)
    return Table("Spectral norms", columns, tuple(_weight(row) for row in kept), note)


def modules(rows: Sequence[ModuleRow]) -> Table:
    """What each module call gave out, and how much of it no longer reacts."""
    columns = (
        Column("Module", "name"),
        Column("Type", "text"),
        Column("Output rms"),
        Column("Gradient rms", help="of the loss's derivative with respect to the output"),
        Column("Dead", help="units that are zero on the whole batch"),
        Column("Saturated", help="outputs where the nonlinearity is flat"),
    )

    def flatness(row: ModuleRow) -> float:
        return max(row.dead_fraction or 0.0, row.saturated_fraction or 0.0)

    kept, note = _furthest(rows, flatness)
    return Table("Activations", columns, tuple(_module(row) for row in kept), note)


def parameters(rows: Sequence[ParameterRow]) -> Table:
    """The real loss's gradient at each parameter."""
    columns = (
        Column("Parameter", "name"),
        Column("Weight norm"),
        Column("Gradient norm"),
        Column("Update / weight", help="size of the recipe's first step over that of the weight"),
        Column("State", "text"),
    )
    kept, note = _furthest(rows, lambda row: _far(row.gradient_norm) + 1e9 * (not row.connected))
    return Table("Parameters", columns, tuple(_parameter(row) for row in kept), note)


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
    return Table(
        "Data",
        columns,
        tuple(
            (
                _name(row.tensor),
                _text(row.dtype),
                _text(_shape(row.shape)),
                *(Cell(figures(value)) for value in (row.mean, row.std, row.minimum, row.maximum)),
            )
            for row in rows
        ),
    )


def _stage(row: StageRow, worst: bool) -> tuple[Cell, ...]:
    norm = row.jacobian_norm_log10
    return (
        Cell(str(row.index), alert=worst),
        Cell(row.name, "" if row.role == "interior" else row.role, "name"),
        _estimate(row.backward_gain),
        _estimate(row.forward_gain),
        _estimate(row.gsc),
        Cell(power(norm.value), power_interval(norm)) if norm else _none(),
        _value(row.output_rms),
    )


def _block(rows: Sequence[StageRow], worst: int | None) -> tuple[Cell, ...]:
    first, last = rows[0], rows[-1]
    norms = [row.jacobian_norm_log10.value for row in rows if row.jacobian_norm_log10]
    return (
        Cell(f"{first.index}–{last.index}", alert=any(row.index == worst for row in rows)),
        Cell(f"{first.name} … {last.name}" if first.name != last.name else first.name, "", "name"),
        _range(row.backward_gain.value for row in rows if row.backward_gain),
        _range(row.forward_gain.value for row in rows if row.forward_gain),
        _range(row.gsc.value for row in rows if row.gsc),
        Cell(power(median(norms)), f"{power(min(norms))} – {power(max(norms))}")
        if norms
        else _none(),
        _range(row.output_rms for row in rows if row.output_rms is not None),
    )


def _weight(row: WeightRow) -> tuple[Cell, ...]:
    excess = _excess(row)
    size = f"on {_shape(row.input_size)}" if row.input_size else ""
    return (
        _name(row.parameter),
        Cell(row.kind, size, "text"),
        _text(_shape(row.shape)),
        _estimate(row.spectral_norm) if row.finite else _text("not finite"),
        _value(row.random_edge),
        Cell(f"{figures(excess)}×") if excess else _none(),
        _value(row.stable_rank),
        _value(row.reshaped_norm),
        _text("identical rows" if row.identical_rows else row.initialization),
    )


def _module(row: ModuleRow) -> tuple[Cell, ...]:
    return (
        Cell(row.module or "the model", f"call {row.call}" if row.call else "", "name"),
        _text(row.type),
        _value(row.output_rms),
        _value(row.gradient_rms),
        _share(row.dead_fraction),
        _share(row.saturated_fraction),
    )


def _parameter(row: ParameterRow) -> tuple[Cell, ...]:
    state = "trains" if row.trainable else "frozen"
    return (
        _name(row.parameter),
        _value(row.weight_norm),
        _estimate(row.gradient_norm),
        _estimate(row.update_ratio),
        _text(state) if row.connected else Cell("not reached by the loss", "", "text", True),
    )


def _furthest(rows: Sequence[_Row], score: Callable[[_Row], float]) -> tuple[Sequence[_Row], str]:
    """The rows with the highest score in their own order, and a note on those left out."""
    if len(rows) <= ROWS_SHOWN:
        return rows, ""
    order = sorted(range(len(rows)), key=lambda i: score(rows[i]), reverse=True)
    kept = sorted(order[:ROWS_SHOWN])
    note = (
        f"The {ROWS_SHOWN} of {len(rows):,} rows that stand out most, in the model's order. "
        "All of them are in the JSON report."
    )
    return [rows[i] for i in kept], note


def _excess(row: WeightRow) -> float:
    if row.spectral_norm is None or not row.random_edge:
        return 0.0
    return row.spectral_norm.value / row.random_edge


def _far(estimate: Estimate | None) -> float:
    """How far from one, in either direction."""
    if estimate is None:
        return 0.0
    size = abs(estimate.value)
    return max(size, 1 / size) if size > 0 else 1e12


def _shape(shape: Iterable[int]) -> str:
    return " × ".join(map(str, shape))


def _name(text: str) -> Cell:
    return Cell(text, "", "name")


def _text(text: str) -> Cell:
    return Cell(text, "", "text")


def _none() -> Cell:
    return Cell(_EMPTY)


def _value(value: float | None) -> Cell:
    return _none() if value is None else Cell(figures(value))


def _share(share: float | None) -> Cell:
    return _none() if share is None else Cell(percent(share), alert=share >= 0.5)


def _estimate(estimate: Estimate | None) -> Cell:
    return Cell(figures(estimate.value), interval(estimate)) if estimate else _none()


def _range(values: Iterable[float]) -> Cell:
    known = list(values)
    if not known:
        return _none()
    return Cell(figures(median(known)), f"{figures(min(known))} – {figures(max(known))}")
