"""Damages real files of every kind for as long as asked, and tells what was not taken well.

``python -m tests.benchmarks.fuzz [MINUTES [SEED]]``; each line that is no summary is a defect, with
the number that makes it again: ``python -m tests.benchmarks.fuzz --again NAME NUMBER``.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

from tests.hostile.harness import MEMORY, SECONDS, Outcome, Zygote, check_line, listing, prepared
from tests.hostile.mutations import BESIDE, MODELS, damage


def main(arguments: list[str]) -> int:
    """Run until the time is up; 1 where a defect was found."""
    torch.set_num_threads(1)
    zygote = Zygote.start()
    try:
        with TemporaryDirectory() as folder:
            whole = {}
            for name, make in {**MODELS, **{k: m for k, (_, m) in BESIDE.items()}}.items():
                home = Path(folder) / name
                home.mkdir()
                whole[name] = make(home)
            if arguments[:1] == ["--again"]:
                return _again(arguments[1], int(arguments[2]), whole, zygote)
            minutes = float(arguments[0]) if arguments else 10.0
            seed = int(arguments[1]) if len(arguments) > 1 else int(time.time())
            return _fuzz(60.0 * minutes, seed, whole, zygote)
    finally:
        zygote.stop()


def _fuzz(seconds: float, seed: int, whole: dict[str, Path], zygote: Zygote) -> int:
    end, count, found = time.monotonic() + seconds, 0, 0
    ended: Counter[str] = Counter()
    while time.monotonic() < end:
        for name in whole:
            outcome, defect = _one(name, seed + count, whole, zygote)
            ended[f"{name} {outcome.code}"] += 1
            if defect:
                found += 1
                print(f"{name} {seed + count}: {defect}", flush=True)
        count += 1
    print(
        f"{count * len(whole)} files from {seed}; defects: {found}; {dict(sorted(ended.items()))}"
    )
    return int(found > 0)


def _again(name: str, number: int, whole: dict[str, Path], zygote: Zygote) -> int:
    outcome, defect = _one(name, number, whole, zygote, keep=Path.cwd() / f"{name} {number}")
    print(outcome, defect)
    return int(bool(defect))


def _one(
    name: str, number: int, whole: dict[str, Path], zygote: Zygote, keep: Path | None = None
) -> tuple[Outcome, str]:
    with TemporaryDirectory() as folder:
        place = prepared(Path(folder))
        for each in {name, "module"} if name in BESIDE else {name}:
            copy = shutil.copytree if whole[each].is_dir() else shutil.copy
            copy(whole[each], place.files / whole[each].name)
        path = place.files / whole[name].name
        damage(path, Random(number))
        if keep is not None:
            shutil.copytree(place.files, keep, dirs_exist_ok=True)
        given = [path] if name in MODELS else [place.files / "model.pt", BESIDE[name][0], path]
        before = listing(place.root)
        line = [*map(str, given), "--effort", "quick", "--no-html", "--quiet"]
        outcome = zygote.ask(place.work, arguments=line)
        written = listing(place.root) != before
    return outcome, "something was written" if written else _defect(outcome, zygote.rss)


def _defect(outcome: Outcome, rss: int) -> str:
    last = outcome.said[-1] if outcome.said else ""
    if outcome.hung or min(outcome.seconds, outcome.cpu) > SECONDS:
        return f"it took {outcome.seconds:.0f} s: {last}"
    if outcome.peak > rss + MEMORY:
        return f"it took {(outcome.peak - rss) >> 20} MB: {last}"
    if outcome.code not in (0, 1, 2, 3) or "Traceback" in outcome.err:
        return f"exit code {outcome.code}: {last}"
    if any(words in outcome.err for words in ("internal error", "crashed", "was killed")):
        return last
    if outcome.code == 2:
        try:
            check_line(outcome)
        except AssertionError as error:
            return f"{error}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
