"""The scoreboard: ``python -m tests.benchmarks.foresight [HALF ...] [--rivals/--no-rivals]``.

What is foreseen, named and mended on the corpus, against labels that come from training, and what
the field's tools say of the same recipes. Limits were set on ``tune``; ``held`` was not looked at.
Takes an hour or two on two cores; rows made by the same code are taken from ``build/``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import click
import torch

from tests.benchmarks.rivals import RIVALS
from tests.corpus.board import balanced, lines, scored
from tests.corpus.case import Case
from tests.corpus.catalogue import HALVES, cases
from tests.corpus.run import run


def _said(job: tuple[str, int]) -> dict[str, bool | None]:
    """What each tool says of one case."""
    half, index = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    case = cases(half)[index]
    return {name: tool(case) for name, tool in RIVALS.items()}


def rivals(half: str, jobs: int) -> list[str]:
    """Balanced accuracy of each tool; what it cannot say counts as wrong."""
    every = cases(half)
    with ProcessPoolExecutor(jobs) as pool:
        said = dict(
            zip(every, pool.map(_said, [(half, i) for i in range(len(every))]), strict=True)
        )

    def says(name: str) -> Callable[[Case], bool | None]:
        return lambda case: said[case][name]

    rows = []
    for name in RIVALS:
        accuracy, sound, faulty = balanced(half, says(name))
        silent = sum(said[case][name] is None for case, _ in scored(half))
        if silent < len(scored(half)):  # else it is not installed: `pip install -e .[bench]`
            rows.append(f"  {name:20}{accuracy:.3f}   sound {sound}   faulty {faulty}")
    return rows


@click.command()
@click.argument("halves", nargs=-1, type=click.Choice(HALVES))
@click.option("--jobs", default=2, show_default=True)
@click.option("--rivals/--no-rivals", "others", default=True)
def main(halves: tuple[str, ...], jobs: int, others: bool) -> None:
    """Print the board of each half."""
    for half in halves or ("held",):
        rows = run(half, jobs=jobs)
        print("\n" + "\n".join(lines(half, rows)))
        if others:
            print("\n".join(rivals(half, jobs)))


if __name__ == "__main__":
    main()
