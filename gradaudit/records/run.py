"""One run of the command: every model that was audited, and what all renderers need beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gradaudit.records.findings import Severity, Verdict
from gradaudit.records.report import Report

_WORST_FIRST = (2, 1, 3, 0)  # exit codes: cannot run, findings, inconclusive, pass
# Severities from each --fail-on upwards.
_COUNTED: Mapping[str, tuple[Severity, ...]] = {"fail": ("fail",), "warn": ("fail", "warn")}


def worst_code(codes: Iterable[int]) -> int:
    """The exit code of a whole run: cannot run, findings, inconclusive, pass."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), 0)


@dataclass(frozen=True)
class RuleDoc:
    """A rule as the catalogue describes it."""

    code: str  # "GA101"
    name: str  # "exploding-jacobian"
    summary: str  # one sentence
    sections: Mapping[str, str]  # Markdown under each heading of the rule's page, in its order


@dataclass(frozen=True)
class Audited:
    """One model of a run: its report and exit code, or why it could not be audited."""

    name: str  # as configured, else as the user named the model
    report: Report | None
    exit_code: int
    error: str = ""  # one line, where there is no report
    fail_on: str = "fail"  # "fail" | "warn" | "never": from where on the gate counts findings

    @property
    def verdict(self) -> Verdict | None:
        """What the gate goes by; ``None`` where there is no report."""
        return self.report.outcome if self.report else None

    def counts(self, severity: Severity) -> bool:
        """Whether the gate counts findings of that severity."""
        return severity in _COUNTED.get(self.fail_on, ())


@dataclass(frozen=True)
class Run:
    """All models of one run, in order."""

    version: str
    audits: tuple[Audited, ...]
    rules: tuple[RuleDoc, ...] = field(default=())  # the whole catalogue, sorted by code
    config: str = ""  # the configuration file in force, as paths in reports are given
    folder: str = ""  # the working folder below the repository's root, POSIX; "" is the root
    anchor: str = ""  # a file of the repository that stands for findings without a place there

    @property
    def exit_code(self) -> int:
        """The worst of all: cannot run, findings, inconclusive, pass."""
        return worst_code(each.exit_code for each in self.audits)

    @property
    def reports(self) -> tuple[Report, ...]:
        """Those of the models that could be audited."""
        return tuple(each.report for each in self.audits if each.report is not None)
