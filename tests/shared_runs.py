"""Runs built of literals: the reports of ``shared_report`` as the command would hand them on."""

from __future__ import annotations

import dataclasses
from typing import Any

from gradaudit.records import (
    Audited,
    Comparison,
    Estimate,
    Finding,
    FindingChange,
    Known,
    MetricChange,
    Report,
    Run,
    Where,
    exit_code,
)
from gradaudit.rules import all_rules
from tests import shared_report

RULES = tuple(rule.described for rule in all_rules())
GROWTH = Estimate(1.4, 1.35, 1.45, "gain per stage")


def audited(report: Report | None, name: str = "net.py:make", fail_on: str = "fail") -> Audited:
    """As the command judges it; without a report it could not be audited."""
    if report is None:
        return Audited(name, None, 2, "no such file: model.pt; check the path", fail_on)
    return Audited(name, report, exit_code(report.outcome, fail_on), fail_on=fail_on)


def run(*audits: Report | Audited | None, **fields: Any) -> Run:
    """A run of these models, in the root of a repository with a README."""
    made = [
        each if isinstance(each, Audited) else audited(each, f"models/net{i}.py:make")
        for i, each in enumerate(audits)
    ]
    return Run("0.1.0", tuple(made), RULES, **{"anchor": "pyproject.toml", **fields})


def placed(report: Report) -> Report:
    """The report with a line of code for each finding, as an audit of code gives it."""
    subject = dataclasses.replace(report.subject, file="models/net.py", line=12)
    findings = tuple(
        dataclasses.replace(
            each, where=dataclasses.replace(each.where, file="models/net.py", line=20 + i)
        )
        for i, each in enumerate(report.findings)
    )
    return dataclasses.replace(report, subject=subject, findings=findings)


def many(count: int, name: str = "layers.{}.weight") -> Report:
    """The exploding net with so many findings of one rule."""
    base = shared_report.exploding()
    finding = base.findings[1]
    return dataclasses.replace(
        base,
        findings=tuple(
            dataclasses.replace(finding, where=Where(parameter=name.format(i)))
            for i in range(count)
        ),
    )


def compared(report: Report, *, worse_metric: bool = False) -> Report:
    """Held against a baseline: the first finding worse, the second known, the last new."""
    first, second, third, last = report.findings
    gone = Known("GA302", "poor-initialization", "layers.0.weight", "warn", GROWTH)
    metric = MetricChange(
        "worse" if worse_metric else "unchanged",
        "growth_per_stage",
        "the model",
        Estimate(1.1, 1.05, 1.15, "gain per stage"),
        GROWTH,
        "its interval or 10%",
        "It rose by 27%, more than its interval and 10%.",
        "growth per stage",
    )
    comparison = Comparison(
        against="baseline.json",
        findings=(
            FindingChange("worse", _known(first), _known(first), "It went from 12 to 3639."),
            FindingChange("unchanged", _known(second), _known(second), "Within its interval."),
            FindingChange("better", _known(third), _known(third), "It fell."),
            FindingChange("new", None, _known(last), "It was not there before."),
            FindingChange("fixed", gone, None, "It is no longer found."),
        ),
        metrics=(metric,),
        stale=("The baseline is of another model: it has 3 stages, this one 31.",),
    )
    return dataclasses.replace(report, comparison=comparison)


def all_known(report: Report) -> Report:
    """Held against a baseline that has all of it."""
    changes = tuple(
        FindingChange("unchanged", _known(f), _known(f), "Within its interval.")
        for f in report.findings
    )
    return dataclasses.replace(report, comparison=Comparison("baseline.json", changes, ()))


def _known(finding: Finding) -> Known:
    place = finding.where.parameter or finding.where.module or "the model"
    return Known(finding.code, finding.name, place, finding.severity, finding.measured)
