"""How often another ``--seed`` turns the verdict, on 20 recipes of the tuned half of the corpus.

``python -m tests.benchmarks.verdict_flips [--effort quick] [--seeds 100] [--anew]``: model, data
and start stay the same, as in a gate that sees one file twice, and only the random numbers of the
probes differ. A flip is a verdict other than the recipe's most frequent one. ``--anew`` draws the
start with the seed as well: then it is another model, and what changes is no flip of the gate.

The recipes are the 20 of :data:`RECIPES`: one or two of every family, sound and faulty, and all
whose verdict was seen to turn in a scan of the whole half with four seeds.

Training beyond the rehearsal draws nothing in these nets, so it is followed once for each start;
that it comes out the same, to the bit, is checked with the second seed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch

from gradaudit import measure
from gradaudit.judging import Judged, judge
from gradaudit.pacing import QUIET
from gradaudit.settings import EFFORTS, Settings
from gradaudit.subject import from_python
from tests.corpus.board import share
from tests.corpus.case import Case
from tests.corpus.catalogue import cases

BUILD = Path(__file__).parents[2] / "build"
MOST = 0.01  # of the verdicts may differ from their recipe's most frequent one

RECIPES = (
    "autoencoder/sigmoid-out-adam",  # GSC near its limit
    "autoencoder/deep-relu-sgd",
    "batchnorm/12-momentum",
    "char-lm/mlp-adam",
    "cnn/he-6-adam",
    "cnn/default-14-adam",
    "diabetes/scaled-adam",
    "diabetes/raw-sgd",
    "load/scaled-large-start",  # growth near its limit
    "lstm/short-forget-minus",
    "relu-mlp/he-20-adam",
    "relu-mlp/default-12-momentum",
    "residual/unscaled-10-adam",
    "smooth-mlp/selu-20-default",  # a start of which some train and some do not
    "tanh-mlp/large-12-adam",  # growth near its limit
    "past-edge/tanh-sgd-late",
    "precision/fp16-deep-small",
    "rnn/near-default",  # as smooth-mlp/selu-20-default
    "rnn/long-default-sgd",
    "prenorm/sort-2-adam",
)


@dataclass(frozen=True)
class Told:
    """What one seed came to."""

    verdict: str
    outcome: str
    findings: tuple[str, ...]  # "GA102 fail"

    @classmethod
    def of(cls, judged: Judged) -> Told:
        """The verdict with what it rests on."""
        findings = tuple(sorted(f"{f.code} {f.severity}" for f in judged.findings))
        return cls(judged.verdict, judged.forecast.outcome, findings)


class _Outlooks:
    """Training followed once for each start, and again with the second seed to compare."""

    def __init__(self) -> None:
        self._real = measure.measure_outlook
        self._known: list[Any] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if len(self._known) < 2:
            self._known.append(self._real(*arguments, **named))
            if self._known[-1] != self._known[0]:
                raise AssertionError("training draws random numbers: it is not followed once")
        return self._known[0]


@contextmanager
def _once() -> Iterator[None]:
    with mock.patch.object(measure, "measure_outlook", _Outlooks()):
        yield


def judged(case: Case, effort: Any, seed: int, start: int = 0) -> Told:
    """The case with the start of seed ``start``, probed with the random numbers of ``seed``."""
    settings = Settings(recipe=case.recipe, threads=1, effort=effort, seed=seed)
    opened = from_python(case.model(start), iter(case.sample()), case.task.loss, None, settings)
    return Told.of(judge(opened, settings, QUIET))


def turned(
    case: Case, effort: Any, seeds: int, say: Callable[[str], object] = lambda _: None
) -> list[Told]:
    """What each of ``seeds`` seeds comes to on one start."""
    told = []
    with _once():
        for seed in range(seeds):
            told.append(judged(case, effort, seed))
            say(f"{case.name} {seed + 1}/{seeds}")
    return told


def flips(told: list[Told]) -> int:
    """Verdicts other than the most frequent one."""
    return len(told) - Counter(each.verdict for each in told).most_common(1)[0][1]


def chosen() -> list[Case]:
    """The recipes, in order."""
    named = {case.name: case for case in cases("tune")}
    return [named[name] for name in RECIPES]


def unsteady(told: list[Told]) -> str:
    """What was found with some seeds and not with others, and how often."""
    counts = Counter(finding for each in told for finding in each.findings)
    return ", ".join(f"{name} x{n}" for name, n in sorted(counts.items()) if n < len(told))


@click.command()
@click.option("--effort", type=click.Choice(EFFORTS), default="quick", show_default=True)
@click.option("--seeds", default=100, show_default=True)
@click.option("--anew", is_flag=True, help="draw the start with the seed as well")
def main(effort: str, seeds: int, anew: bool) -> None:
    """Print a line for each recipe and the share of flips; ends in 1 where it is too large."""
    torch.set_num_threads(1)
    kept: dict[str, Any] = {}
    for case in chosen():
        told = (
            [judged(case, effort, seed, start=seed) for seed in range(seeds)]
            if anew
            else turned(case, effort, seeds)
        )
        counts = dict(Counter(each.verdict for each in told).most_common())
        kept[case.name] = {"verdicts": counts, "flips": flips(told), "unsteady": unsteady(told)}
        print(
            f"{case.name:34}{flips(told):4} of {len(told)}  {counts}  {unsteady(told)}", flush=True
        )
        BUILD.mkdir(exist_ok=True)
        kind = f"{effort}{'.anew' if anew else ''}"
        (BUILD / f"verdict_flips.{kind}.json").write_text(json.dumps(kept, indent=1))
    total = share(
        flip
        for row in kept.values()
        for flip in [True] * row["flips"] + [False] * (seeds - row["flips"])
    )
    print(f"{effort}: {total} of the verdicts differ from their recipe's most frequent one")
    sys.exit(int(not anew and total.value >= MOST))


if __name__ == "__main__":
    main()
