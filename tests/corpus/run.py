"""``python -m tests.corpus.run HALF [--jobs N] [--only NAME] [--no-mend]``: score every case.

Rows land in ``build/foresight.HALF.json``, which the scoreboard reads; a case that raised is a row
with an ``error``.
"""

from __future__ import annotations

import json
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch

from tests.corpus.catalogue import HALVES, cases_of, modules
from tests.corpus.score import foreseen

BUILD = Path(__file__).parents[2] / "build"


def place(half: str) -> Path:
    """Where the rows of one half are kept."""
    return BUILD / f"foresight.{half}.json"


def _one(job: tuple[str, str, int, bool]) -> tuple[str, dict[str, Any]]:
    half, module, index, mend = job
    torch.set_num_threads(1)
    case = cases_of(half, module)[index]
    try:
        return case.name, foreseen(case, mend=mend)
    except Exception:
        return case.name, {"error": traceback.format_exc(limit=8)}


def run(half: str, *, jobs: int, only: str = "", mend: bool = True) -> dict[str, Any]:
    """All rows of one half, those that ``only`` does not name as they were."""
    work = [
        (half, module, i, mend)
        for module in modules(half)
        for i, case in enumerate(cases_of(half, module))
        if only in case.name
    ]
    path = place(half)
    rows = json.loads(path.read_text(encoding="utf-8")) if only and path.is_file() else {}
    with ProcessPoolExecutor(jobs) as pool:
        for done, (name, row) in enumerate(pool.map(_one, work), start=1):
            rows[name] = row
            print(f"{done}/{len(work)} {name}", end="\r", flush=True)
    BUILD.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return rows


@click.command()
@click.argument("half", type=click.Choice(HALVES))
@click.option("--jobs", default=2, show_default=True)
@click.option("--only", default="", help="only cases whose name holds this")
@click.option("--mend/--no-mend", default=True, help="search for cures, and train with them")
def main(half: str, jobs: int, only: str, mend: bool) -> None:
    """Score all cases of HALF."""
    rows = run(half, jobs=jobs, only=only, mend=mend)
    wrong = [name for name, row in rows.items() if "error" in row]
    print(f"\n{len(rows)} rows in {place(half)}; raised: {wrong or 'none'}")


if __name__ == "__main__":
    main()
