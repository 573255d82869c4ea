"""What tables are made of, and how rows are chosen where there are too many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

from gradaudit.records import Estimate
from gradaudit.reports.numbers import figures, interval, percent, share_interval

ROWS_SHOWN = 250
EMPTY = "–"
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, an aside in smaller type, and the classes it is set in."""

    text: str
    aside: str = ""
    kind: str = "number"  # "number" | "name" | "text", and further classes
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
    id: str = ""  # its address within the page
    hot: frozenset[int] = frozenset()  # rows in which something does not pass


def addressed(table: Table, address: str, names: Collection[str]) -> Table:
    """The table with its address; rows of ``names``, and those with an alert, stand out.

    A row below another (of the kind ``sub``) stands out where that one does, and makes it so.
    """
    heads: list[int] = []
    for i, row in enumerate(table.rows):
        heads.append(heads[-1] if heads and row[0].kind.endswith("sub") else i)
    found = {
        heads[i]
        for i, row in enumerate(table.rows)
        if any(cell.alert or (cell.kind == "name" and cell.text in names) for cell in row)
    }
    hot = frozenset(i for i, head in enumerate(heads) if head in found)
    return replace(table, id=address, hot=hot)


def slim(table: Table) -> Table:
    """The table without the columns in which no row has anything."""
    kept = [
        i
        for i in range(len(table.columns))
        if any(row[i].text not in (EMPTY, "") for row in table.rows)
    ]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
    )


def furthest(rows: Sequence[_Row], score: Callable[[_Row], float]) -> tuple[Sequence[_Row], str]:
    """The rows with the highest score in their own order, and a note on those left out."""
    if len(rows) <= ROWS_SHOWN:
        return rows, ""
    order = sorted(range(len(rows)), key=lambda i: score(rows[i]), reverse=True)
    kept = sorted(order[:ROWS_SHOWN])
    note = (
        f"The {ROWS_SHOWN} of {len(rows):,} rows that stand out most, in the model's order. "
        "All of them are in the JSON report, and every layer is among the layers below."
    )
    return [rows[i] for i in kept], note


def shape(sizes: Iterable[int]) -> str:
    """``(8, 3, 3)`` as ``8 × 3 × 3``."""
    return " × ".join(map(str, sizes))


def call(module: str, number: int) -> Cell:
    """A module, and which call of it where it is not the first."""
    return Cell(module or "the model", f"call {number}" if number else "", "name")


def name(words: str, aside: str = "") -> Cell:
    """A name in the model's own spelling."""
    return Cell(words, aside, "name")


def text(words: str, aside: str = "") -> Cell:
    """Words."""
    return Cell(words or EMPTY, aside, "text")


def none() -> Cell:
    """Nothing was measured."""
    return Cell(EMPTY)


def value(number: float | None) -> Cell:
    """A number."""
    return none() if number is None else Cell(figures(number))


def share(part: float | None, alert: float = 0.5) -> Cell:
    """A share in percent, marked from ``alert`` on."""
    return none() if part is None else Cell(percent(part), alert=part >= alert)


def estimated_share(estimate: Estimate | None) -> Cell:
    """A share in percent with its interval."""
    if estimate is None:
        return none()
    return Cell(percent(estimate.value), share_interval(estimate))


def estimate(measured: Estimate | None) -> Cell:
    """A number with its interval."""
    return Cell(figures(measured.value), interval(measured)) if measured else none()


def spread(values: Iterable[float]) -> Cell:
    """The median of many numbers, with their smallest and largest."""
    known = list(values)
    if not known:
        return none()
    return Cell(figures(median(known)), f"{figures(min(known))} – {figures(max(known))}")
