"""What a gate makes of a verdict: with a baseline only what is new counts; then an exit code."""

from __future__ import annotations

from typing import Literal

from gradaudit.records.comparison import Comparison, MetricChange
from gradaudit.records.findings import Verdict

FailOn = Literal["fail", "warn", "never"]
FAIL_ON: tuple[FailOn, ...] = ("fail", "warn", "never")


def held(judged: Verdict, comparison: Comparison | None) -> Verdict:
    """A verdict with what was known before taken out: what is new or worse counts.

    A number beyond its tolerance fails; a finding has the severity it has now. What could not be
    judged stays so, whatever the baseline holds.
    """
    if comparison is None:
        return judged
    worst = {
        "fail" if isinstance(each, MetricChange) else each.known.severity
        for each in comparison.regressions
    }
    if "fail" in worst:
        return "fail"
    if judged == "inconclusive":
        return "inconclusive"
    return "warn" if "warn" in worst else "pass"


def exit_code(judged: Verdict, fail_on: str = "fail") -> int:
    """0 passed, 1 findings at or above ``fail_on``, 3 inconclusive; ``never`` is always 0."""
    if fail_on == "never" or judged == "pass":
        return 0
    if judged == "inconclusive":
        return 3
    return 1 if judged == "fail" or fail_on == "warn" else 0
