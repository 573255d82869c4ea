"""``python -m tests.corpus.run HALF [--jobs N] [--only NAME]``: score every case of one half.

Rows land in ``build/foresight.HALF.json``, which the scoreboard reads. What is there already, made
by the same code, is not made again; a case that raised is a row with an ``error``.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import click
import torch

from tests.corpus.catalogue import HALVES, cases_of, digest, modules
from tests.corpus.score import foreseen

ROOT = Path(__file__).parents[2]
SAVED_EVERY = 20  # rows: what an interruption loses at most

Job = tuple[str, str, int, bool]


def place(half: str) -> Path:
    """Where the rows of one half are kept."""
    return ROOT / "build" / f"foresight.{half}.json"


def code(half: str) -> str:
    """Of everything a row depends on: the package and the half's cases."""
    text = b"".join(path.read_bytes() for path in sorted((ROOT / "gradaudit").rglob("*.py")))
    text += "".join(digest(half, module) for module in modules(half)).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def known(half: str, *, mend: bool = True) -> dict[str, Any]:
    """Rows made by the code as it is now, with cures or without."""
    if not place(half).is_file():
        return {}
    found = json.loads(place(half).read_text(encoding="utf-8"))
    same = (found.get("code"), found.get("mend")) == (code(half), mend)
    return dict(found["rows"]) if same else {}


def _save(half: str, rows: dict[str, Any], mend: bool) -> None:
    """In one go: an interruption leaves the rows before or these."""
    body = {"code": code(half), "mend": mend, "torch": torch.__version__, "rows": rows}
    place(half).parent.mkdir(exist_ok=True)
    beside = place(half).with_suffix(".new")
    beside.write_text(json.dumps(body, indent=1), encoding="utf-8")
    beside.replace(place(half))


def _jobs(half: str, only: str, mend: bool, done: dict[str, Any]) -> Iterator[Job]:
    for module in modules(half):
        for i, case in enumerate(cases_of(half, module)):
            if only in case.name and case.name not in done:
                yield half, module, i, mend


def _one(job: Job) -> tuple[str, dict[str, Any]]:
    half, module, index, mend = job
    torch.set_num_threads(1)
    case = cases_of(half, module)[index]
    try:
        return case.name, foreseen(case, mend=mend)
    except Exception:
        return case.name, {"error": traceback.format_exc(limit=8)}


def run(half: str, *, jobs: int, only: str = "", mend: bool = True) -> dict[str, Any]:
    """All rows of one half, in the order of the cases."""
    rows = known(half, mend=mend)
    work = list(_jobs(half, only, mend, rows))
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(_one, job) for job in work]
        for count, future in enumerate(as_completed(futures), start=1):
            name, row = future.result()
            rows[name] = row
            print(f"{count}/{len(work)} {name:50}", end="\r", flush=True)
            if count % SAVED_EVERY == 0:
                _save(half, rows, mend)
    rows = _in_order(half, rows)
    _save(half, rows, mend)
    return rows


def _in_order(half: str, rows: dict[str, Any]) -> dict[str, Any]:
    names = [case.name for module in modules(half) for case in cases_of(half, module)]
    return {name: rows[name] for name in names if name in rows}


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
