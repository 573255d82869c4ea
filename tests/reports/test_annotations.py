"""GitHub annotations: what a runner reads back from the lines, ten at most."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from gradaudit.records import Run, Where
from gradaudit.reports import annotations
from tests import shared_report, shared_runs


class Read(NamedTuple):
    level: str
    file: str
    line: int
    title: str
    message: str


def read(text: str) -> list[Read]:
    """The lines as a runner takes them apart: properties end at ``,`` and commands at ``::``."""
    found = []
    for line in text.splitlines():
        parts = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
        assert parts, line
        pairs = dict(each.split("=", 1) for each in parts[2].split(","))
        assert list(pairs) == ["file", "line", "title"]
        values = {key: decoded(value) for key, value in pairs.items()}
        message = decoded(parts[3])
        found.append(Read(parts[1], values["file"], int(values["line"]), values["title"], message))
    assert text == "" or text.endswith("\n")
    return found


def decoded(text: str) -> str:
    for code, letter in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, letter)
    return text


def of(run: Run) -> list[Read]:
    return read(annotations.render(run))


def test_findings_worst_first_at_their_lines() -> None:
    found = of(shared_runs.run(shared_runs.placed(shared_report.exploding())))
    assert [(each.level, each.title[:5], each.line) for each in found] == [
        ("error", "GA101", 20),
        ("warning", "GA105", 21),
        ("warning", "GA112", 23),
        ("notice", "GA107", 22),
    ]
    assert {each.file for each in found} == {"models/net.py"}
    assert found[0].message.startswith("layers.12: total gain 3639 (2761 to 4797), limit 1000")


def test_nothing_to_say_is_no_line() -> None:
    assert annotations.render(shared_runs.run(shared_report.sound())) == ""


def test_what_a_runner_would_misread_is_coded() -> None:
    base = shared_report.exploding()
    hostile = "100%,\n::error::a:b %0A"
    where = Where(module=hostile, file="odd, dir/a:b%.py", line=4)
    finding = dataclasses.replace(base.findings[0], where=where, why=hostile, name=hostile)
    report = dataclasses.replace(base, findings=(finding,))
    run = shared_runs.run(shared_runs.audited(report, hostile), None)
    first, second = of(run)
    assert first.file == "odd, dir/a:b%.py"
    assert "100%, ::error::a:b %0A" in first.message
    assert second.title == "gradaudit cannot run in models/net1.py:make"


def test_a_rule_is_one_annotation() -> None:
    (only,) = of(shared_runs.run(shared_runs.many(500)))
    assert "and 499 more places" in only.message


def test_ten_at_most_and_the_last_names_the_rest() -> None:
    base = shared_report.exploding()
    findings = tuple(
        dataclasses.replace(base.findings[0], code=f"XX{i}", severity=severity)
        for i, severity in enumerate(["note"] * 4 + ["warn"] * 5 + ["fail"] * 7)
    )
    found = of(shared_runs.run(dataclasses.replace(base, findings=findings)))
    assert [each.level for each in found] == ["error"] * 7 + ["warning"] * 3
    assert found[-1].title == "and 7 more"
    assert all(code in found[-1].message for code in ("XX6", "XX7", "XX8", "XX0", "XX3"))


def test_what_the_baseline_knows_is_left_out() -> None:
    report = shared_runs.compared(shared_report.exploding(), worse_metric=True)
    found = of(shared_runs.run(report))
    assert [each.title for each in found] == [
        "GA101 exploding-jacobian",
        "worse than the baseline",
        "GA112 clip-missing",
    ]


def test_inconclusive_and_cannot_run_are_told() -> None:
    (only,) = of(shared_runs.run(shared_report.weights_only()))
    assert (only.level, only.title) == ("warning", "gradaudit is inconclusive")
    (failed,) = read(annotations.failed(shared_runs.run(), "no such file: x; check the path"))
    assert (failed.level, failed.file) == ("error", "pyproject.toml")
    assert failed.message == "no such file: x; check the path"
