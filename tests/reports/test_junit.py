"""JUnit XML: a suite for each model, a case for each rule, red exactly where the gate is."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from gradaudit.records import Report, Run, Where
from gradaudit.reports import junit
from tests import shared_report, shared_runs

# What Jenkins' schema allows: attributes and children of each element, in the order of children.
SHAPE = {
    "testsuites": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        "(testsuite )*",
    ),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, "(testcase )*"),
    "testcase": (
        {"name", "classname", "time"},
        "(skipped |error |failure )?(system-out )?",
    ),
    "skipped": ({"message"}, ""),
    "error": ({"message", "type"}, ""),
    "failure": ({"message", "type"}, ""),
    "system-out": (set(), ""),
}


def suites(run: Run) -> list[TestSuite]:
    """The suites, read back; what they hold has the shape that Jenkins expects."""
    text = junit.render(run)
    root = ElementTree.fromstring(text.encode("utf-8"))
    for element in root.iter():
        attributes, children = SHAPE[element.tag]
        assert set(element.keys()) <= attributes
        assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
        if element.tag in ("testsuites", "testsuite"):
            counted(element)
    return list(JUnitXml.fromstring(text.encode("utf-8")))


def counted(element: ElementTree.Element) -> None:
    kinds = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for attribute, tag in kinds.items():
        assert int(element.attrib[attribute]) == len(list(element.iter(tag)))
    assert float(element.attrib["time"]) >= 0


def cases(run: Run) -> dict[str, TestCase]:
    (suite,) = suites(run)
    return {str(case.name): case for case in suite}


def result(case: TestCase) -> type | None:
    return type(case.result[0]) if case.result else None


def test_every_rule_is_a_case(report: Report) -> None:
    found = cases(shared_runs.run(report))
    rules = [f"{doc.code} {doc.name}" for doc in shared_runs.RULES]
    assert list(found)[: 1 + len(rules)] == ["verdict", *rules]
    others = {f.code for f in report.findings} - {doc.code for doc in shared_runs.RULES}
    assert len(found) == 1 + len(rules) + len(others)


@pytest.mark.parametrize("fail_on", ["fail", "warn", "never"])
def test_a_suite_is_red_where_the_gate_is(report: Report, fail_on: str) -> None:
    for each in (report, shared_runs.all_known(report)):
        audited = shared_runs.audited(each, "net.py:make", fail_on)
        (suite,) = suites(shared_runs.run(audited))
        assert bool(suite.failures or suite.errors) == (audited.exit_code != 0)


def test_a_failure_has_place_numbers_and_reason() -> None:
    found = cases(shared_runs.run(shared_runs.placed(shared_report.exploding())))
    (failure,) = found["GA101 exploding-jacobian"].result
    assert isinstance(failure, Failure)
    assert failure.type == "fail"
    assert failure.message == (
        "layers.12: total gain 3639 (2761 to 4797), limit 1000, as a sum of squares"
    )
    assert failure.text.startswith("fail: layers.12 (models/net.py:20): total gain 3639")
    assert "multiplied by this much" in failure.text


def test_warnings_fail_where_the_gate_counts_them_and_notes_never() -> None:
    report = shared_report.exploding()
    for fail_on, kind in (("fail", None), ("warn", Failure), ("never", None)):
        audited = shared_runs.audited(report, "net.py:make", fail_on)
        found = cases(shared_runs.run(audited))
        assert result(found["GA105 mostly-frozen"]) is kind
        assert result(found["GA107 saturated-units"]) is None
        assert found["GA107 saturated-units"].system_out.startswith("note: layers.15 (")


def test_what_was_not_measured_or_asked_for_is_skipped_with_the_reason() -> None:
    base = shared_report.exploding()
    settings = {
        **base.settings,
        "select": ("GA1", "GA4", "GA6"),
        "ignore": ("clip-missing",),
        "reasons": {"clip-missing": "the trainer clips"},
        "severities": {"GA404": "off"},
    }
    found = cases(shared_runs.run(dataclasses.replace(base, settings=settings)))
    skipped = {
        name[:5]: case.result[0].message for name, case in found.items() if result(case) is Skipped
    }
    assert skipped["GA604"] == "curvature: the standard effort does not measure it"
    assert skipped["GA403"] == "no attention was measured"
    assert skipped["GA612"] == "the recipe does not clip"
    assert skipped["GA301"] == "not selected"
    assert skipped["GA611"] == "ignored: the trainer clips"
    assert skipped["GA404"] == "ignored"
    assert "GA102" not in skipped


def test_weights_alone_skip_all_that_needs_a_run() -> None:
    found = cases(shared_runs.run(shared_report.weights_only()))
    assert result(found["verdict"]) is Error
    assert found["verdict"].result[0].type == "inconclusive"
    assert found["GA101 exploding-jacobian"].result[0].message == (
        "Jacobian growth: there is no code to run"
    )
    assert result(found["GA301 excess-spectral-norm"]) is None


def test_a_model_that_cannot_be_audited_is_an_error() -> None:
    first, second = suites(shared_runs.run(shared_report.sound(), None))
    assert (first.errors, second.errors, second.tests) == (0, 1, 1)
    (case,) = second
    assert case.result[0].type == "cannot run"
    assert case.result[0].message == "no such file: model.pt; check the path"


def test_numbers_beyond_the_baseline_fail_a_case_of_their_own() -> None:
    name = "measured numbers against the baseline"
    base = shared_report.sound()
    worse = shared_runs.compared(shared_report.exploding(), worse_metric=True).comparison
    assert worse
    report = dataclasses.replace(base, comparison=dataclasses.replace(worse, findings=()))
    found = cases(shared_runs.run(report))
    assert result(found[name]) is Failure
    assert found[name].result[0].message == (
        "growth per stage: It rose by 27%, more than its interval and 10%."
    )
    never = shared_runs.audited(report, "net.py:make", "never")
    assert result(cases(shared_runs.run(never))[name]) is None


def test_known_findings_are_told_and_do_not_fail() -> None:
    found = cases(shared_runs.run(shared_runs.all_known(shared_report.exploding())))
    case = found["GA101 exploding-jacobian"]
    assert result(case) is None
    assert case.system_out.startswith("fail, known to the baseline: layers.12 (")


def test_time_is_that_of_the_audit() -> None:
    base = shared_report.sound()
    report = dataclasses.replace(base, environment={"times": {"total_seconds": 12.5}})
    (suite,) = suites(shared_runs.run(report))
    assert suite.time == 12.5


def test_any_name_gives_valid_xml() -> None:
    base = shared_report.exploding()
    name = "a\x00\x1b[1m\ud800\ufffe]]><&\"'" + "ß" * 500
    findings = tuple(
        dataclasses.replace(f, where=Where(module=name), why=name, name=name, code=f"X{i}\x01")
        for i, f in enumerate(base.findings)
    )
    report = dataclasses.replace(base, findings=findings, cause=name)
    found = suites(shared_runs.run(shared_runs.audited(report, name), None))
    assert "\\x00" in str(found[0].name)
    assert found[0].failures == 1


def test_many_places_of_a_rule_are_one_case() -> None:
    report = shared_runs.many(2_000)
    audited = shared_runs.audited(report, "net.py:make", "warn")
    failure = cases(shared_runs.run(audited))["GA105 mostly-frozen"].result[0]
    assert failure.message.endswith("(2,000 places)")
    assert failure.text.splitlines()[-1] == "and 1,900 more places"
