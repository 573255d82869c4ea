"""SARIF: valid by its own schema, every result in the repository, the limits of code scanning."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest

from gradaudit.records import Estimate, Finding, Report, Run, Where
from gradaudit.reports import sarif
from tests import shared_report, shared_runs
from tests.command import CHECKOUT


@cache
def validator() -> Any:
    schema = json.loads((CHECKOUT / "tests" / "sarif-schema-2.1.0.json").read_text())
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema)


def log(run: Run) -> dict[str, Any]:
    """The one run of the log, which is valid and whose results all have a place."""
    return read(sarif.render(run))


def read(text: str) -> dict[str, Any]:
    text.encode("utf-8")
    found = json.loads(text)
    assert [error.message for error in validator().iter_errors(found)] == []
    (only,) = found["runs"]
    for result in only["results"]:
        in_repository(result)
        assert only["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    made: dict[str, Any] = only
    return made


def in_repository(result: dict[str, Any]) -> None:
    (location,) = result["locations"]
    physical = location["physicalLocation"]
    assert physical["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
    uri = physical["artifactLocation"]["uri"]
    assert urlsplit(uri)[:2] == ("", "")
    path = PurePosixPath(unquote(uri))
    assert path.parts
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert "\\" not in uri
    assert physical["region"]["startLine"] >= 1


def results(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = log(run)["results"]
    return found


def test_every_report_is_valid_and_complete(report: Report) -> None:
    found = results(shared_runs.run(report))
    assert [each["ruleId"] for each in found] == [
        f.code for f in sorted(report.findings, key=lambda f: "fwn".index(f.severity[0]))
    ]
    levels = {"fail": "error", "warn": "warning", "note": "note"}
    assert sorted(each["level"] for each in found) == sorted(
        levels[f.severity] for f in report.findings
    )


def test_several_models_are_one_run_and_one_that_cannot_run_is_told() -> None:
    run = shared_runs.run(shared_report.exploding(), None, shared_report.weights_only())
    found = log(run)
    (invocation,) = found["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 2
    told = [(e["level"], e["message"]["text"]) for e in invocation["toolExecutionNotifications"]]
    assert told[0] == ("error", "models/net1.py:make: no such file: model.pt; check the path")
    assert told[1][0] == "warning"
    assert all(e["message"]["text"].startswith("models/net0.py:make: ") for e in found["results"])
    (alone,) = log(shared_runs.run(shared_report.sound()))["invocations"]
    assert (alone["executionSuccessful"], alone["exitCode"]) == (True, 0)


def test_the_message_has_number_interval_limit_and_the_change() -> None:
    first = results(shared_runs.run(shared_runs.placed(shared_report.exploding())))[0]
    text = first["message"]["text"]
    assert text.startswith(
        "layers.12: total gain 3639 (2761 – 4797), limit 1000, as a sum of squares."
    )
    assert "Change: Initialize the 30 Linear layers with Glorot, gain 1.17." in text
    assert first["properties"]["measured"]["unit"] == "log10 of total gain (sum of squares)"
    assert first["properties"]["limit"]["value"] == 3.0
    (location,) = first["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/net.py"
    assert location["physicalLocation"]["region"] == {"startLine": 20}
    assert location["logicalLocations"] == [
        {"name": "12", "fullyQualifiedName": "layers.12", "kind": "module"}
    ]


# Places


@pytest.mark.parametrize(
    ("file", "folder", "uri"),
    [
        ("net.py", "", "net.py"),
        ("net.py", "work/models", "work/models/net.py"),
        ("../lib/net.py", "work/models", "work/lib/net.py"),
        ("a dir/größe#1%.py", "", "a%20dir/gr%C3%B6%C3%9Fe%231%25.py"),
        ("c:thing.py", "", "pyproject.toml"),
        ("odd:name.py", "", "odd%3Aname.py"),
        ("../../../outside.py", "work/models", "work/models/pyproject.toml"),
        ("/home/somebody/net.py", "", "pyproject.toml"),
        ("C:\\nets\\net.py", "", "pyproject.toml"),
        ("\\\\server\\net.py", "", "pyproject.toml"),
        ("\ud800.py", "", "%5Cud800.py"),
        ("", "", "pyproject.toml"),
    ],
)
def test_places_are_in_the_repository(file: str, folder: str, uri: str) -> None:
    base = shared_report.exploding()
    where = Where(module="a", file=file, line=0)
    finding = dataclasses.replace(base.findings[0], where=where)
    subject = dataclasses.replace(base.subject, source="/else/where.py:make")
    report = dataclasses.replace(base, findings=(finding,), subject=subject)
    (only,) = results(shared_runs.run(report, folder=folder))
    physical = only["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == uri
    assert physical["region"]["startLine"] == 1


def test_what_stands_for_a_place_comes_in_order() -> None:
    base = shared_report.exploding()

    def uri(source: str, made: str, **fields: str) -> str:
        subject = dataclasses.replace(
            base.subject, source=source, file=made, format=fields.pop("format", "code")
        )
        report = dataclasses.replace(base, subject=subject)
        found = results(shared_runs.run(report, **{"anchor": "", **fields}))
        return str(found[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])

    every = {"config": "gate/pyproject.toml", "anchor": "README.rst"}
    assert uri("net.py:make", "factory.py", **every) == "factory.py"
    assert uri("net.py:make", "", **every) == "net.py"
    assert uri("package.net:make", "", **every) == "gate/pyproject.toml"
    assert uri("package.net:make", "", anchor="README.rst") == "README.rst"
    assert uri("out/model.pt", "", format="state dict") == "out/model.pt"
    assert uri("/data/model.pt", "", format="state dict") == "README.md"


# Fingerprints


def prints(report: Report, *others: Report) -> list[str]:
    found = results(shared_runs.run(report, *others))
    return [each["partialFingerprints"]["gradaudit/v1"] for each in found]


def test_fingerprints_hold_against_lines_values_and_seeds() -> None:
    base = shared_report.exploding()

    def moved(finding: Finding) -> Finding:
        where = dataclasses.replace(finding.where, file="other.py", line=99)
        measured = Estimate.exact(finding.measured.value + 1, finding.measured.unit)
        return dataclasses.replace(finding, where=where, measured=measured, why="Otherwise.")

    after = dataclasses.replace(base, seed=7, findings=tuple(map(moved, base.findings)))
    assert prints(after) == prints(base)
    assert len(set(prints(base))) == len(base.findings)


def test_fingerprints_hold_wherever_the_repository_lies() -> None:
    def under(home: str) -> list[str]:
        run = shared_runs.run(shared_report.exploding())
        named = dataclasses.replace(run.audits[0], name=f"{home}/nets/train.py:subject")
        found = results(dataclasses.replace(run, audits=(named,)))
        return [each["partialFingerprints"]["gradaudit/v1"] for each in found]

    assert under("/builds/group/project") == under("/home/someone/work")


def test_fingerprints_differ_by_rule_layer_and_model() -> None:
    base = shared_report.exploding()
    first = base.findings[0]

    def alone(**fields: Any) -> str:
        finding = dataclasses.replace(first, **fields)
        return prints(dataclasses.replace(base, findings=(finding,)))[0]

    seen = [
        alone(),
        alone(code="GA102"),
        alone(where=Where(module="layers.13")),
        alone(where=Where(module="layers.12", call=2)),
        alone(where=Where(stage=3)),
        alone(where=Where(stage=4)),
    ]
    assert len(set(seen)) == len(seen)
    both = prints(base, base)
    assert both[: len(base.findings)] == prints(base)  # a model more changes nothing for the first
    assert len(set(both)) == 2 * len(base.findings)


# Limits


def test_too_many_results_are_counted_by_rule() -> None:
    text = sarif.render(shared_runs.run(shared_runs.many(60_000)))
    assert len(text.encode()) <= sarif.MOST_BYTES
    found = read(text)["results"]
    assert len(found) <= sarif.MOST_RESULTS
    assert sum(each.get("occurrenceCount", 1) for each in found) == 60_000
    assert "layers.0.weight" in found[0]["message"]["text"]
    last = found[-1]
    assert last["message"]["text"].startswith("59,001 places, the worst layers.999.weight")
    assert len(last["locations"][0]["logicalLocations"]) <= 1_000


def test_too_long_a_file_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few enough results, but too many bytes."""
    monkeypatch.setattr(sarif, "MOST_BYTES", 1_000_000)
    text = sarif.render(shared_runs.run(shared_runs.many(1_500)))
    assert len(text.encode()) <= 1_000_000
    found = read(text)["results"]
    assert sum(each.get("occurrenceCount", 1) for each in found) == 1_500
    assert 1 < len(found) < 1_500


# The catalogue


def test_rules_carry_their_documentation() -> None:
    rules = log(shared_runs.run(shared_report.sound()))["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == [doc.code for doc in shared_runs.RULES]
    for each, doc in zip(rules, shared_runs.RULES, strict=True):
        assert each["shortDescription"]["text"] == doc.summary
        assert each["fullDescription"]["text"]
        for title, body in doc.sections.items():
            assert f"## {title}\n\n{body}" in each["help"]["markdown"]
            assert body in each["help"]["text"]
        assert each["name"].isalnum()
        assert each["defaultConfiguration"]["level"] == "warning"
        assert 1 < len(each["properties"]["tags"]) <= 20
        assert "helpUri" not in each


def test_a_rule_outside_the_catalogue_has_an_entry() -> None:
    base = shared_report.exploding()
    other = dataclasses.replace(base.findings[0], code="XY999")
    found = log(shared_runs.run(dataclasses.replace(base, findings=(other,))))
    assert found["tool"]["driver"]["rules"][-1] == {"id": "XY999"}


# Against a baseline


def test_states_against_a_baseline() -> None:
    report = shared_runs.compared(shared_report.exploding(), worse_metric=True)
    found = log(shared_runs.run(report))
    states = {each["ruleId"]: each["baselineState"] for each in found["results"]}
    assert states == {
        "GA101": "updated",
        "GA105": "unchanged",
        "GA107": "updated",
        "GA112": "new",
        "GA-baseline": "updated",
    }
    known = {each["ruleId"] for each in found["results"] if "suppressions" in each}
    assert known == {"GA105", "GA107"}
    (model,) = found["properties"]["models"]
    assert model["fixed"] == [{"ruleId": "GA302", "place": "layers.0.weight"}]
    worse = next(each for each in found["results"] if each["ruleId"] == "GA-baseline")
    assert worse["level"] == "error"
    assert "growth per stage: It rose by 27%" in worse["message"]["text"]


# Names written by others


def test_hostile_names_are_neither_links_nor_placeholders() -> None:
    base = shared_report.exploding()
    name = "x[click](1) {0} \ud800\x1b[31m" + "y" * 5_000
    finding = dataclasses.replace(base.findings[0], where=Where(module=name), why=name)
    report = dataclasses.replace(base, findings=(finding,), cause=name)
    run = shared_runs.run(shared_runs.audited(report, name), None)
    assert "\\ud800\\u001b" not in sarif.render(run)
    text = results(run)[0]["message"]["text"]
    assert "](" not in text
    assert "{0}" not in text.replace("{{0}}", "")
    assert len(text) < 2_100


def test_the_same_run_gives_the_same_text(report: Report) -> None:
    assert sarif.render(shared_runs.run(report)) == sarif.render(shared_runs.run(report))
