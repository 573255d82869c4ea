"""Numbers forecast from the start, weighed against the training that was seen.

What trains is not failed for how it starts. What does not train has a cause, and a number that is
past its limit then weighs as one: a fault of the start where a steady recipe gets no further from
it, a fault of the recipe where it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradaudit.records import Finding, Measurements
from gradaudit.rules._judge import made_up
from gradaudit.rules._outlook import reading, recipe_to_blame

_OF_START = ("GA101", "GA102", "GA105", "GA201", "GA202", "GA302", "GA402", "GA403", "GA503")
_OF_DATA = ("GA501", "GA502")
_OF_RECIPE = ("GA601", "GA602", "GA607", "GA612", "GA701", "GA702", "GA703", "GA704")
_OF_MEMORY = ("GA202", "GA203")  # what a steady recipe learns all the same
_ALSO_NOTES = ("GA202", "GA502")  # faults only of a task that needs the memory, or the scale
_LIVES = (
    " Training with this recipe was followed for {steps} steps and does not suffer from it, so "
    "this does not fail the audit."
)


def weighed(findings: Sequence[Finding], measurements: Measurements) -> tuple[Finding, ...]:
    """The findings with the severity that training itself gives them."""
    read, outlook = reading(measurements), measurements.outlook
    if read is None or outlook is None or read.course == "open" or made_up(measurements):
        return tuple(findings)
    if read.course == "trains":
        words = _LIVES.format(steps=outlook.own.steps)
        return tuple(_lived_with(finding, words) for finding in findings)
    recipe = recipe_to_blame(measurements)
    causes = (*_OF_DATA, *(_OF_RECIPE if recipe else _OF_START))
    raised = tuple(_raised(finding, causes) for finding in findings)
    if not recipe or not any(f.severity == "fail" and f.code in _OF_RECIPE for f in raised):
        return raised
    return tuple(
        replace(f, severity="warn") if f.severity == "fail" and f.code in _OF_MEMORY else f
        for f in raised
    )


def _lived_with(finding: Finding, words: str) -> Finding:
    if finding.severity != "fail":
        return finding
    told = "" if "does not fail the audit" in finding.why else words
    return replace(finding, severity="warn", why=finding.why + told)


def _raised(finding: Finding, causes: Sequence[str]) -> Finding:
    """A cause past its limit fails where training does."""
    mild = finding.severity == "warn" or (
        finding.severity == "note" and finding.code in _ALSO_NOTES
    )
    if not mild or finding.code not in causes or not _past(finding):
        return finding
    return replace(finding, severity="fail")


def _past(finding: Finding) -> bool:
    """Whether the whole interval lies on one side of the limit."""
    low, high = finding.measured.low, finding.measured.high
    return not (
        (low is None or low <= finding.limit.value)
        and (high is None or high >= finding.limit.value)
    )
