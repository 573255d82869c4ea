"""``report.raise_for_verdict()``: when it raises, and what a test that fails by it prints."""

from __future__ import annotations

import re
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gradaudit
from gradaudit.errors import UsageError
from gradaudit.records import Comparison, FindingChange, Known, MetricChange, Report, exit_code
from tests import shared_report
from tests.command import python

FAILS, PASSES = shared_report.exploding(), shared_report.sound()
UNKNOWN = shared_report.weights_only()
WARNS = replace(
    FAILS,
    verdict="warn",
    findings=tuple(replace(f, severity="warn") for f in FAILS.findings),
)
KNOWN = Known("GA101", "exploding-jacobian", "layers.12", "fail", None)
OLD = Comparison("base.json", (FindingChange("unchanged", KNOWN, KNOWN, "as before"),), ())
NEW = replace(OLD, findings=(FindingChange("new", None, KNOWN, "It was not there before."),))
SLOWER = MetricChange("worse", "growth", "the model", None, None, "10%", "2 -> 3: worse")


@pytest.mark.parametrize("fail_on", ["fail", "warn", "never"])
@pytest.mark.parametrize("report", [FAILS, WARNS, PASSES, UNKNOWN, replace(FAILS, comparison=OLD)])
def test_it_raises_where_the_command_would_not_end_in_0(report: Report, fail_on: Any) -> None:
    expected = exit_code(report.outcome, fail_on)
    if expected == 0:
        report.raise_for_verdict(fail_on)
        return
    with pytest.raises(gradaudit.VerdictError) as raised:
        report.raise_for_verdict(fail_on)
    assert raised.value.exit_code == expected
    assert isinstance(raised.value, gradaudit.GradauditError)
    assert isinstance(raised.value, unittest.TestCase.failureException)


def test_the_codes_of_the_reports_above() -> None:
    """That the test above is about every outcome."""
    codes = [exit_code(each.outcome) for each in (FAILS, WARNS, PASSES, UNKNOWN)]
    assert codes == [1, 0, 0, 3]
    assert exit_code(WARNS.outcome, "warn") == 1


def said(report: Report, fail_on: Any = "fail") -> list[str]:
    with pytest.raises(gradaudit.VerdictError) as raised:
        report.raise_for_verdict(fail_on)
    return str(raised.value).splitlines()


def test_it_names_cause_numbers_and_the_first_change() -> None:
    lines = said(FAILS)
    assert lines[0] == f"fail: {FAILS.cause}"
    assert lines[1] == "  forecast: diverges, 93% confident"
    finding = FAILS.findings[0]
    assert lines[2].startswith(f"  fail {finding.code} {finding.name} in {finding.where}: ")
    assert f"{finding.measured.value:.3g} ({finding.measured.low:.3g} to " in lines[2]
    assert f"limit {finding.limit.value:.3g}" in lines[2]
    assert FAILS.prescription is not None
    assert f"  first change: {FAILS.prescription.remedies[0].title}" in lines
    assert any(line.startswith("  shown to work: diverges -> trains in ") for line in lines)
    assert len(lines) < 24


def test_warnings_are_named_only_where_they_count() -> None:
    worst = FAILS.findings[0]
    mixed = replace(FAILS, findings=(worst, replace(worst, severity="warn")))
    assert sum(line.startswith("  warn ") for line in said(mixed)) == 0
    assert sum(line.startswith("  warn ") for line in said(mixed, "warn")) == 1


def test_many_findings_are_cut() -> None:
    many = replace(FAILS, findings=FAILS.findings[:1] * 50)
    assert sum(line.startswith("  fail GA") for line in said(many)) == 8
    assert "  and 42 more" in said(many)


def test_what_is_new_since_the_baseline_is_named() -> None:
    told = said(replace(FAILS, comparison=NEW))
    assert "  - GA101 exploding-jacobian in layers.12: It was not there before." in told
    slower = replace(PASSES, comparison=replace(OLD, metrics=(SLOWER,)))
    assert said(slower)[0].startswith("fail: ")
    assert "  since base.json:" in said(slower)
    assert "  - growth 2 -> 3: worse" in said(slower)


def test_what_was_not_measured_is_named() -> None:
    assert "  - not measured: Jacobian growth: there is no code to run" in said(UNKNOWN)


def test_hostile_names_stay_on_their_line() -> None:
    for line in said(replace(shared_report.hostile(), verdict="fail")):
        assert line.isprintable()


def test_another_word_is_refused() -> None:
    with pytest.raises(
        UsageError, match="fail_on; expected 'fail', 'warn', 'never'; found 'often'"
    ):
        FAILS.raise_for_verdict("often")  # type: ignore[arg-type]


def test_pytest_shows_the_line_of_the_test_and_the_cause(tmp_path: Path) -> None:
    (tmp_path / "test_model.py").write_text(
        "from tests.shared_report import exploding\n\n"
        "def test_trains():\n    exploding().raise_for_verdict()\n"
    )
    root = str(Path(__file__).parents[1])
    ran = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_model.py"),
        cwd=tmp_path,
        env={"PYTHONPATH": root},
    )
    assert ran.code == 1
    assert re.search(
        rf"^E +gradaudit.errors.VerdictError: fail: {re.escape(FAILS.cause)}", ran.out, re.M
    )
    assert "test_model.py:4: VerdictError" in ran.out
    assert "records/report.py" not in ran.out
