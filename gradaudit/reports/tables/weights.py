"""Spectral norms of the weights as a table, gates and folded norms below the weight itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradaudit.records import WeightPart, WeightRow
from gradaudit.reports.numbers import figures
from gradaudit.reports.tables import cells
from gradaudit.reports.tables.cells import Cell, Column, Table

_COLUMNS = (
    Column("Weight", "name"),
    Column("Shape", "text"),
    Column("Spectral norm", help="the most this weight can stretch any input"),
    Column("Random", help="spectral norm expected of independent entries of the same size"),
    Column("Ratio", help="measured over random"),
    Column("Stable rank", help="how many directions carry the weight's energy"),
    Column("Spectral radius", help="largest eigenvalue: what repeating the weight grows by"),
    Column("Torch's number", help="what torch.nn.utils.spectral_norm would divide by"),
    Column("Peak", help="largest entry over the root mean square of all"),
    Column("Peers", help="size over the median of the same weight in other layers"),
    Column("Dead outputs", help="output units whose weights are next to zero"),
    Column("Looks like", "text"),
)
_DEAD_WEIGHS = 10.0  # all outputs dead count as much as ten times the norm of random entries


def table(rows: Sequence[WeightRow]) -> Table:
    """Spectral norms against what random entries of the same scale would have."""
    kept, note = cells.furthest(rows, _oddness)
    listed = tuple(line for row in kept for line in _lines(row))
    return cells.slim(Table("Spectral norms", _COLUMNS, listed, note))


def _lines(row: WeightRow) -> Iterator[tuple[Cell, ...]]:
    yield _weight(row)
    for part in row.parts:
        yield _part(part)
    if row.folded_norm:
        norm = cells.estimate(row.folded_norm)
        words = f"with {row.folded_with} folded in" if row.folded_with else "as at eval"
        yield _sub(Cell(words, "", "name sub"), norm)


def _weight(row: WeightRow) -> tuple[Cell, ...]:
    excess = _excess(row)
    size = f", on {cells.shape(row.input_size)}" if row.input_size else ""
    return (
        cells.name(row.parameter),
        cells.text(cells.shape(row.shape), row.kind + size),
        cells.estimate(row.spectral_norm) if row.finite else cells.text("not finite"),
        cells.value(row.random_edge),
        Cell(f"{figures(excess)}×") if excess else cells.none(),
        cells.value(row.stable_rank),
        cells.value(row.spectral_radius),
        cells.value(row.reshaped_norm),
        _peak(row),
        _peers(row),
        _dead(row),
        cells.text("identical rows" if row.identical_rows else row.initialization),
    )


def _peak(row: WeightRow) -> Cell:
    if row.peak is None:
        return cells.none()
    return Cell(figures(row.peak), f"random: {figures(row.random_peak)}" if row.random_peak else "")


def _peers(row: WeightRow) -> Cell:
    if row.peer_ratio is None:
        return cells.none()
    return Cell(f"{figures(row.peer_ratio)}×", f"of {row.peers}")


def _dead(row: WeightRow) -> Cell:
    """None at all is what is expected: nothing is said then."""
    if not row.dead_outputs:
        return cells.none()
    half = 2 * row.dead_outputs >= row.outputs > 0
    return Cell(f"{row.dead_outputs:,}", f"of {row.outputs:,}", alert=half)


def _part(part: WeightPart) -> tuple[Cell, ...]:
    return _sub(
        Cell(part.name, "", "name sub"),
        cells.estimate(part.spectral_norm),
        cells.value(part.stable_rank),
        cells.value(part.spectral_radius),
    )


def _sub(
    name: Cell, norm: Cell, rank: Cell | None = None, radius: Cell | None = None
) -> tuple[Cell, ...]:
    """A line below a weight: the columns that it does not fill are left blank."""
    known = {0: name, 2: norm, 5: rank, 6: radius}
    return tuple(known.get(i) or Cell("") for i in range(len(_COLUMNS)))


def _oddness(row: WeightRow) -> float:
    """How far a weight is from random, from its peers, and from having all its outputs alive."""
    peers = row.peer_ratio or 1.0
    dead = (row.dead_outputs or 0) / row.outputs if row.outputs else 0.0
    return max(_excess(row), peers, 1 / peers if peers > 0 else 0.0, _DEAD_WEIGHS * dead)


def _excess(row: WeightRow) -> float:
    if row.spectral_norm is None or not row.random_edge:
        return 0.0
    return row.spectral_norm.value / row.random_edge
