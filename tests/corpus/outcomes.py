"""From trained outcomes to labels: trains, stalls, diverges, or too close to call.

``r`` is the final loss in units of the best constant prediction's. What the task allows is the
least r that any recipe of the task reached (median of its seeds). ``progress`` is how far a run got
from the constant to that: 0 at the constant, 1 at the best.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.corpus.catalogue import cases_of, modules
from tests.corpus.label import known

SOUND, FAULTY = 0.6, 0.4  # halfway is the definition; within a tenth of it is too close to call
WORSE = 1.5  # times the constant's loss, and above its own start: it left for good


@cache
def recorded(half: str) -> Mapping[str, Mapping[str, Any]]:
    """What was trained in one half by the code as it is now, by case.

    What other code trained, or a case that is no more, could set what a task allows.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for module in modules(half):
        trained = known(half, module)
        rows = {} if trained is None else trained["cases"]
        found.update({c.name: rows[c.name] for c in cases_of(half, module) if c.name in rows})
    return found


@cache
def best(half: str) -> Mapping[str, float]:
    """The least final loss of each task, in units of the constant's."""
    reached: dict[str, float] = {}
    for row in recorded(half).values():
        finals = [run["final"] for run in row["runs"]]
        if None not in finals:
            r = statistics.median(finals) / row["constant"]
            reached[row["task"]] = min(r, reached.get(row["task"], 1.0))
    return reached


def progress(row: Mapping[str, Any], least: float, final: float) -> float:
    """0 at the best constant prediction, 1 at what the task allows."""
    return float((1 - final / row["constant"]) / max(1 - least, 1e-9))


def one(row: Mapping[str, Any], least: float, run: Mapping[str, Any]) -> str:
    """What one run came to."""
    if run["final"] is None:
        return "diverges"
    if run["final"] > WORSE * row["constant"] and run["final"] > run["first"]:
        return "diverges"
    got = progress(row, least, run["final"])
    if got >= SOUND:
        return "trains"
    return "stalls" if got <= FAULTY else "borderline"


@cache
def labels(half: str) -> Mapping[str, str]:
    """The label of each case: what all seeds agree on, else ``borderline``.

    Seeds that stall and seeds that diverge agree that it does not train: the more frequent counts.
    """
    found = {}
    for name, row in recorded(half).items():
        least = best(half).get(row["task"], 1.0)
        votes = [one(row, least, run) for run in row["runs"]]
        if least > 0.9:  # no recipe of the task learned anything: nothing to be held against
            found[name] = "borderline"
        elif len(set(votes)) == 1:
            found[name] = votes[0]
        elif set(votes) == {"stalls", "diverges"}:
            found[name] = statistics.mode(votes)
        else:
            found[name] = "borderline"
    return found
