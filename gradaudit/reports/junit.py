"""JUnit XML of a run: a suite for each model, a case for each rule.

A case fails where the gate counts what its rule found, so a suite is red exactly when the model's
exit code is not 0; what is found and not counted stands in the case's output.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from gradaudit.records import Audited, Report, Run
from gradaudit.reports.claims import Claim, claims, numbers, place, regressed, told
from gradaudit.reports.numbers import TERMINAL
from gradaudit.reports.spots import spot
from gradaudit.reports.text import clean, one_line, plural, shorten
from gradaudit.reports.unjudged import why_not

if TYPE_CHECKING:
    from junitparser import TestCase, TestSuite

NAME = "gradaudit"  # of the whole; by it a file is known for one of ours
_LISTED = 100  # places of a rule
_LETTERS = 400
_VERDICT, _BASELINE = "verdict", "measured numbers against the baseline"


def render(run: Run) -> str:
    """The run as one document, UTF-8, with the counts that readers ask for."""
    from junitparser import JUnitXml

    whole = JUnitXml(NAME)
    for audited in run.audits:
        whole.add_testsuite(_suite(run, audited))
    whole.update_statistics()
    file = io.BytesIO()
    whole.write(file, pretty=True)
    return file.getvalue().decode("utf-8").rstrip() + "\n"


def _suite(run: Run, audited: Audited) -> TestSuite:
    from junitparser import TestSuite

    suite = TestSuite(one_line(audited.name))
    report = audited.report
    cases = [_verdict(audited)]
    if report is not None:
        found = claims(audited)
        known = {doc.code for doc in run.rules}
        rules = [(doc.code, doc.name, why_not(report, doc)) for doc in run.rules]
        rules += dict.fromkeys(
            (c.finding.code, c.finding.name, "") for c in found if c.finding.code not in known
        )
        for code, name, why in rules:
            mine = [claim for claim in found if claim.finding.code == code]
            cases.append(_rule(run, audited, f"{code} {name}", mine, why))
        if report.comparison is not None and report.comparison.metrics:
            cases.append(_metrics(audited, report))
    suite.add_testcases(cases)
    return suite


def _verdict(audited: Audited) -> TestCase:
    """The case of the audit itself: an error where there is none, or none that judges."""
    from junitparser import Error

    case = _case(audited, _VERDICT)
    report = audited.report
    if report is None:
        case.result = [Error(_short(audited.error), "cannot run")]
        return case
    times = report.environment.get("times")
    seconds = times.get("total_seconds") if isinstance(times, dict) else None
    case.time = float(seconds or 0.0)
    if audited.exit_code == 3:
        case.result = [Error(_short(report.cause), "inconclusive")]
    case.system_out = clean(f"{audited.verdict}: {report.cause}")
    return case


def _rule(run: Run, audited: Audited, name: str, mine: list[Claim], why: str) -> TestCase:
    from junitparser import Failure, Skipped

    case = _case(audited, name)
    report = audited.report
    counted = [claim for claim in mine if claim.counts]
    rest = [claim for claim in mine if not claim.counts]
    if counted:
        worst = counted[0].finding
        text = f"{place(worst)}: {numbers(worst.measured, worst.limit, TERMINAL)}"
        text += f" ({plural(len(counted), 'place')})" if len(counted) > 1 else ""
        failure = Failure(_short(text), worst.severity)
        failure.text = _lines(run, report, counted)
        case.result = [failure]
    elif why and not mine:
        case.result = [Skipped(_short(why))]
    if rest:
        case.system_out = _lines(run, report, rest)
    return case


def _metrics(audited: Audited, report: Report) -> TestCase:
    from junitparser import Failure

    case = _case(audited, _BASELINE)
    worse = regressed(report)
    if worse and audited.fail_on != "never":
        failure = Failure(_short(told(worse[0])), "worse")
        failure.text = "\n".join(told(each) for each in worse)
        case.result = [failure]
    elif worse:
        case.system_out = "\n".join(told(each) for each in worse)
    return case


def _case(audited: Audited, name: str) -> TestCase:
    from junitparser import TestCase

    return TestCase(one_line(name), one_line(audited.name), 0.0)


def _lines(run: Run, report: Report | None, found: list[Claim]) -> str:
    lines = [_line(run, report, claim) for claim in found[:_LISTED]]
    left = len(found) - len(lines)
    return "\n".join([*lines, f"and {plural(left, 'more place')}"] if left else lines)


def _line(run: Run, report: Report | None, claim: Claim) -> str:
    finding = claim.finding
    at = clean(str(spot(run, report, finding.where)))
    known = ", known to the baseline" if claim.known else ""
    amounts = numbers(finding.measured, finding.limit, TERMINAL)
    head = f"{finding.severity}{known}: {place(finding)} ({at}): {amounts}."
    return f"{head} {_short(finding.why)}"


def _short(text: str) -> str:
    return shorten(text, _LETTERS)
