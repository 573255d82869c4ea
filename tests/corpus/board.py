"""The scoreboard: what was foreseen, named and mended, against what training came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.corpus.case import Case
from tests.corpus.catalogue import cases
from tests.corpus.causes import first_code, named
from tests.corpus.outcomes import best, labels, one, progress, recorded

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """Hits among trials with Wilson's 95% interval."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        """The share; 1 of nothing is 1."""
        return self.hits / self.trials if self.trials else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 1927."""
        n, z = max(self.trials, 1), 1.959964
        centre = (self.value + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.value * (1 - self.value) / n + (z / 2 / n) ** 2)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({self.hits}/{self.trials}; {low:.3f} to {high:.3f})"


def scored(half: str) -> list[tuple[Case, bool]]:
    """The cases that are not too close to call, and whether they train."""
    known = labels(half)
    return [(c, known[c.name] == "trains") for c in cases(half) if known[c.name] != "borderline"]


def share(flags: Iterable[bool]) -> Share:
    """Of the flags that are set."""
    every = list(flags)
    return Share(sum(every), len(every))


def balanced(half: str, says: Callable[[Case], bool | None]) -> tuple[float, Share, Share]:
    """Mean of the shares right on sound and on faulty recipes; ``None`` counts as wrong."""
    sound = share(says(case) is True for case, trains in scored(half) if trains)
    faulty = share(says(case) is False for case, trains in scored(half) if not trains)
    return (sound.value + faulty.value) / 2, sound, faulty


def foretold(rows: Mapping[str, Row]) -> Callable[[Case], bool | None]:
    """What the forecast says: trains, does not, or unknown."""
    says = {"trains": True, "stalls": False, "diverges": False}
    return lambda case: says.get(rows[case.name].get("outcome", "unknown"))


def false_alarms(half: str, rows: Mapping[str, Row]) -> Share:
    """Verdict "fail" on a recipe that trains."""
    return share(rows[c.name].get("verdict") == "fail" for c, trains in scored(half) if trains)


def calibration(half: str, rows: Mapping[str, Row]) -> dict[float, Share]:
    """Of the forecasts made at each confidence, the share that came true."""
    says, found = foretold(rows), {}
    for case, trains in scored(half):
        confidence = rows[case.name].get("confidence")
        if confidence:
            found.setdefault(confidence, []).append(says(case) is trains)
    return {confidence: share(found[confidence]) for confidence in sorted(found)}


def causes(half: str, rows: Mapping[str, Row]) -> Share:
    """Of the recipes with a planted fault that do not train, those whose true cause comes first.

    True is the planted fault, or what a single change answers that alone makes it train to the end.
    """
    faulty = [case for case, trains in scored(half) if not trains and case.fault]
    return share(cause_is_true(half, case, rows[case.name]) for case in faulty)


def cause_is_true(half: str, case: Case, row: Row) -> bool:
    """Whether the finding a row leads with is the planted fault, or its removal alone mends."""
    findings = row.get("findings", ())
    if named(case, findings):
        return True
    return first_code(findings) in row.get("sole", ()) and case_mended(half, case, row)


def mended(half: str, rows: Mapping[str, Row]) -> Share:
    """Of the recipes that do not train, those that do with what was written, on every seed."""
    return share(
        case_mended(half, case, rows[case.name]) for case, trains in scored(half) if not trains
    )


def case_mended(half: str, case: Case, row: Row) -> bool:
    """Whether the median of three runs gets halfway from the constant to the task's best."""
    runs = row.get("mended") or []
    gains = sorted(gained(half, case, run) for run in runs)
    return bool(gains) and gains[len(gains) // 2] >= 0.5


def gained(half: str, case: Case, run: Mapping[str, Any]) -> float:
    """How far a run got from the constant to the best; minus infinity where it broke."""
    row = recorded(half)[case.name]
    least = best(half).get(row["task"], 1.0)
    if run["final"] is None or one(row, least, run) == "diverges":
        return -math.inf
    return progress(row, least, run["final"])


def made_worse(half: str, rows: Mapping[str, Row]) -> list[str]:
    """Sound recipes that lose more than 5% of what they gained with what was written."""
    names = []
    for case, trains in scored(half):
        runs = rows[case.name].get("mended") or []
        if trains and runs:
            before = [gained(half, case, run) for run in recorded(half)[case.name]["runs"]]
            after = [gained(half, case, run) for run in runs]
            if sorted(after)[len(after) // 2] < 0.95 * sorted(before)[len(before) // 2]:
                names.append(case.name)
    return names


def lines(half: str, rows: Mapping[str, Row]) -> Sequence[str]:
    """The board of one half, for people."""
    accuracy, sound, faulty = balanced(half, foretold(rows))
    alarms = false_alarms(half, rows)
    return [
        f"{half}: {sound.trials} recipes train, {faulty.trials} do not",
        f"  balanced accuracy   {accuracy:.3f}   sound {sound}   faulty {faulty}",
        f"  false alarms        {alarms}",
        f"  cause named first   {causes(half, rows)}",
        f"  mended by fix       {mended(half, rows)}",
        f"  sound made worse    {len(made_worse(half, rows))}",
        *(f"  confidence {c:.2f}     {s}" for c, s in calibration(half, rows).items()),
    ]
