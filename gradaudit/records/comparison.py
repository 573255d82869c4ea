"""A report held against an earlier one: what is new, worse, fixed, unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradaudit.records.estimate import Estimate, Limit
from gradaudit.records.findings import Severity, Verdict

# "new": not there before; "worse", "better": beyond the tolerance; "fixed": no longer there.
Change = Literal["new", "worse", "better", "fixed", "unchanged"]
CHANGES: tuple[Change, ...] = ("new", "worse", "fixed", "better", "unchanged")  # the worst first
PAST: tuple[Change, ...] = ("new", "worse")  # what still counts for the gate


@dataclass(frozen=True)
class Known:
    """A finding as a baseline keeps it: what and where, how bad, and the number."""

    code: str
    name: str
    place: str  # parameter, module or stage; "the model"
    severity: Severity
    measured: Estimate | None
    limit: Limit | None = None


@dataclass(frozen=True)
class FindingChange:
    """One finding, before and now; ``None`` on the side where it is not."""

    change: Change
    before: Known | None
    now: Known | None
    why: str  # one sentence: what changed and by how much, within which tolerance

    @property
    def known(self) -> Known:
        """The finding as it is now, else as it was."""
        found = self.now or self.before
        if found is None:
            raise ValueError("a change has one side at least")
        return found


@dataclass(frozen=True)
class MetricChange:
    """One measured number, before and now, and the tolerance it was held to."""

    change: Change
    metric: str  # "growth_per_stage", "loss_after_rehearsal", ...
    place: str  # "the model", or a layer
    before: Estimate | None
    now: Estimate | None
    tolerance: str  # in words: "its interval or 10%"
    why: str
    title: str = ""  # the metric for people: "growth per stage"


@dataclass(frozen=True)
class Comparison:
    """What changed from one report to the next."""

    against: str  # file of the baseline, or of the older report
    findings: tuple[FindingChange, ...]
    metrics: tuple[MetricChange, ...]
    stale: tuple[str, ...] = ()  # why the baseline should be written anew, a sentence each
    verdict_before: Verdict | None = None

    def of(self, change: Change) -> tuple[FindingChange, ...]:
        """The findings that changed in that way."""
        return tuple(each for each in self.findings if each.change == change)

    @property
    def regressions(self) -> tuple[FindingChange | MetricChange, ...]:
        """What is new or worse, all that still counts for the gate; numbers last."""
        return self.rows(*PAST)

    def rows(self, *changes: Change) -> tuple[FindingChange | MetricChange, ...]:
        """The findings, then the numbers, that changed in one of these ways."""
        every: tuple[FindingChange | MetricChange, ...] = (*self.findings, *self.metrics)
        return tuple(each for each in every if each.change in changes)
