"""What the gate makes of a report that is held against a baseline, in one line for every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradaudit.records import CHANGES, PAST, Change, Comparison, Report, Verdict, exit_code

_STATES: Mapping[int, Verdict] = {0: "pass", 1: "fail", 3: "inconclusive"}


@dataclass(frozen=True)
class Gate:
    """How the gate ends."""

    state: Verdict  # never "warn": a gate opens or not, or cannot tell
    before: str  # the sentence up to the baseline's name
    against: str  # its name
    after: str

    def __str__(self) -> str:
        """``The gate fails: 1 new, 5 worse than baseline.json (3 unchanged)``."""
        return self.before + self.against + self.after


def gate(report: Report, fail_on: str = "fail") -> Gate | None:
    """The gate's end with a baseline or another ``fail_on``; ``None`` where the verdict says it."""
    compared = report.comparison
    state = _STATES[exit_code(report.outcome, fail_on)]
    if compared is None:
        if exit_code(report.verdict, fail_on) == exit_code(report.verdict):
            return None
        end = "passes" if state == "pass" else "fails"
        return Gate(state, f"The gate {end} with --fail-on {fail_on}", "", "")
    counts = tally(compared)
    past = ", ".join(f"{counts[kind]} {kind}" for kind in PAST if kind in counts)
    rest = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind not in PAST)
    head = {"pass": "The gate passes", "fail": "The gate fails"}.get(
        state, "The gate cannot tell: too little was measured"
    )
    if past:
        joint = "than" if "worse" in counts else "since"
        spared = f", for none of it counts with --fail-on {fail_on}" if state == "pass" else ""
        before = f"{head}{spared}{'; ' if state == 'inconclusive' else ': '}{past} {joint} "
    elif state == "inconclusive":
        before = f"{head}; nothing is new or worse than "
    elif report.verdict in ("fail", "warn"):
        before = f"{head}: all of it is known to "
    else:
        before = f"{head}: nothing is new or worse than "
    return Gate(state, before, compared.against, f" ({rest})" if rest else "")


def tally(comparison: Comparison) -> dict[Change, int]:
    """How many findings and numbers changed in each way that occurs, the worst first."""
    counts = {kind: len(comparison.rows(kind)) for kind in CHANGES}
    return {kind: count for kind, count in counts.items() if count}
