"""Labels from training: ``python -m tests.corpus.label [tune|held] [MODULE ...] [--jobs N]``.

Every case is trained to the end with three seeds. The outcomes land in ``labels/HALF.MODULE.json``,
module by module; what is there already, made by the same code, is not trained again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch

from tests.corpus.catalogue import HALVES, HOME, cases_of, digest, modules
from tests.corpus.training import train

SEEDS = (0, 1, 2)
LABELS = HOME / "labels"


def place(half: str, module: str) -> Path:
    """Where a module's outcomes are kept."""
    return LABELS / f"{half}.{module}.json"


def known(half: str, module: str) -> dict[str, Any] | None:
    """Outcomes of the code as it is now."""
    path = place(half, module)
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["digest"] == digest(half, module) else None


def _one(job: tuple[str, str, int, int]) -> dict[str, Any]:
    half, module, index, seed = job
    torch.set_num_threads(1)
    case = cases_of(half, module)[index]
    started = time.perf_counter()
    outcome = train(case, seed)
    found = dataclasses.asdict(outcome)
    for key in ("first", "final"):
        value = found[key]
        found[key] = None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
    found["curve"] = [float(f"{value:.4g}") for value in outcome.curve]
    return {**found, "seed": seed, "seconds": round(time.perf_counter() - started, 1)}


def _constant(job: tuple[str, str, int]) -> float:
    half, module, index = job
    torch.set_num_threads(1)
    return float(f"{cases_of(half, module)[index].task.best_constant():.6g}")


def label(half: str, names: Iterable[str], jobs: int) -> None:
    """Train what is not known yet, longest modules' cases side by side."""
    todo = [name for name in names if known(half, name) is None]
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {}
        for module in todo:
            count = len(cases_of(half, module))
            runs = [(half, module, i, seed) for i in range(count) for seed in SEEDS]
            constants = pool.map(_constant, [(half, module, i) for i in range(count)])
            waiting[module] = (constants, pool.map(_one, runs))
        for module, (constants, outcomes) in waiting.items():
            rows, constant = list(outcomes), list(constants)
            found = {
                case.name: {
                    "task": case.task.base,
                    "constant": constant[i],
                    "runs": rows[i * len(SEEDS) : (i + 1) * len(SEEDS)],
                }
                for i, case in enumerate(cases_of(half, module))
            }
            body = {"digest": digest(half, module), "torch": torch.__version__, "cases": found}
            LABELS.mkdir(exist_ok=True)
            place(half, module).write_text(_text(body), encoding="utf-8")
            took = sum(row["seconds"] for row in rows)
            print(f"{half}.{module}: {len(found)} cases, {took:.0f} core seconds", flush=True)


def _text(body: dict[str, Any]) -> str:
    """JSON with a run on each line, so that a change of one shows as one."""
    text = json.dumps(body, indent=1)
    runs = re.compile(r"\{\n\s+\"first\"[^{}]*\}")
    return runs.sub(lambda found: " ".join(found[0].split()), text) + "\n"


@click.command()
@click.argument("half", type=click.Choice(HALVES))
@click.argument("names", nargs=-1)
@click.option("--jobs", default=2, show_default=True)
def main(half: str, names: tuple[str, ...], jobs: int) -> None:
    """Train all cases of HALF, or those of the modules NAMES."""
    unknown = set(names) - set(modules(half))
    if unknown:
        sys.exit(f"no such module in {half}: {', '.join(sorted(unknown))}")
    label(half, names or modules(half), jobs)


if __name__ == "__main__":
    main()
