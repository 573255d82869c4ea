"""Every format with every verdict: one exit code whatever is written, and standard output alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gradaudit.errors import ModelError
from gradaudit.formats import FORMATS
from gradaudit.records import Report
from gradaudit.reports import html, markdown
from tests import shared_report
from tests.command import Ran, files_in, gradaudit, run

FILES = {
    "html": "r.html",
    "json": "r.json",
    "sarif": "r.sarif",
    "junit": "r.xml",
    "markdown": "r.md",
}
OPTION = {"html": "-o", "json": "--json", "sarif": "--sarif", "junit": "--junit"}
OPTION["markdown"] = "--markdown"
REPORTS = {
    "pass": shared_report.sound(),
    "warn": shared_report.transformer(),
    "fail": shared_report.exploding(),
    "inconclusive": shared_report.weights_only(),
}
CODES = {  # by verdict and --fail-on
    ("pass", "fail"): 0,
    ("pass", "warn"): 0,
    ("pass", "never"): 0,
    ("warn", "fail"): 0,
    ("warn", "warn"): 1,
    ("warn", "never"): 0,
    ("fail", "fail"): 1,
    ("fail", "warn"): 1,
    ("fail", "never"): 0,
    ("inconclusive", "fail"): 3,
    ("inconclusive", "warn"): 3,
    ("inconclusive", "never"): 0,
    ("error", "fail"): 2,
    ("error", "never"): 2,
}


@pytest.fixture
def audits(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every audit end as told, and a model whose code prints."""

    def end_in(verdict: str) -> None:
        def audited(*_: Any, **__: Any) -> Report:
            print("the model's own words")
            if verdict == "error":
                raise ModelError("net.py:make raised ValueError: no", next_step="mend it")
            return REPORTS[verdict]

        monkeypatch.setattr("gradaudit.auditing.audit_file", audited)

    page = "<!doctype html>\n<html><head></head></html>\n"  # drawing is tested elsewhere
    for name in ("render", "render_run"):
        if hasattr(html, name):
            monkeypatch.setattr(html, name, lambda *_, **__: page)
    return end_in


def reads(kind: str, text: str, code: int) -> None:
    """That the text is that format, whole, and tells the same as the exit code."""
    if kind == "json":
        assert json.loads(text)["schema"] == "gradaudit.report/1"
    elif kind == "sarif":
        (only,) = json.loads(text)["runs"]
        assert only["invocations"][0]["exitCode"] == code
    elif kind == "junit":
        root = ElementTree.fromstring(text.encode())
        red = int(root.attrib["failures"]) + int(root.attrib["errors"])
        assert (red > 0) == (code != 0)
    elif kind == "markdown":
        assert text.startswith(markdown.MARKER)
        assert text.endswith("</sub>\n")
    else:
        assert text.startswith("<!doctype html>")
        assert text.endswith("</html>\n")


def combinations() -> list[tuple[str, tuple[str, ...]]]:
    """What goes to standard output, and what to files."""
    kinds = tuple(FILES)
    alone = [("", (kind,)) for kind in kinds]
    piped = [(kind, ()) for kind in kinds]
    rest = [(kind, tuple(other for other in kinds if other != kind)) for kind in kinds]
    return [("", ()), *alone, *piped, *rest, ("", kinds)]


@pytest.mark.parametrize(("verdict", "fail_on"), CODES)
def test_one_exit_code_whatever_is_written(
    verdict: str, fail_on: str, audits: Callable[[str], None], tmp_path: Path
) -> None:
    audits(verdict)
    code = CODES[verdict, fail_on]
    for i, (piped, written) in enumerate(combinations()):
        folder = tmp_path / str(i)
        folder.mkdir()
        arguments = [word for kind in written for word in (OPTION[kind], FILES[kind])]
        arguments += [OPTION[piped], "-"] if piped else []
        arguments += [] if "html" in (piped, *written) else ["--no-html"]
        arguments += ["--annotations"] if i % 2 else ["--quiet"]
        ran = run("net.py:make", "--fail-on", fail_on, *arguments, cwd=folder)
        assert ran.code == code, (arguments, ran.err)
        if code == 2:
            assert (ran.out, files_in(folder)) == ("", [])
            continue
        assert files_in(folder) == sorted(FILES[kind] for kind in written)
        for kind in written:
            reads(kind, (folder / FILES[kind]).read_text(encoding="utf-8"), code)
        if piped:
            reads(piped, ran.out, code)
        else:
            assert ran.out == ""
        assert "the model's own words" in ran.err


def annotated(ran: Ran) -> list[str]:
    return [line for line in ran.said if re.match("::(error|warning|notice) ", line)]


def test_annotations_stand_on_standard_error_with_and_without_a_summary(
    audits: Callable[[str], None], tmp_path: Path
) -> None:
    audits("fail")
    loud = run("net.py:make", "--no-html", "--annotations", cwd=tmp_path)
    quiet = run("net.py:make", "--no-html", "--annotations", "--quiet", cwd=tmp_path)
    assert annotated(loud) == annotated(quiet) != []
    assert loud.out == quiet.out == ""
    audits("error")
    failed = run("net.py:make", "--no-html", "--annotations", cwd=tmp_path)
    (line,) = annotated(failed)
    assert line.startswith("::error file=")
    assert line.endswith("::net.py:make raised ValueError: no; mend it")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sarif", "-", "--junit", "-"], "both --sarif and --junit ask for standard output"),
        (["--json", "-", "--markdown", "-"], "both --json and --markdown ask for"),
        (["--sarif", "r", "--junit", "./r"], "two reports would be written to r"),
        (["--markdown", "r", "--json", "x/../r"], "two reports would be written to"),
        (["--junit", "theirs.xml"], "theirs.xml exists and is not a gradaudit report"),
        (["--markdown", "theirs.md"], "theirs.md exists and is not a gradaudit report"),
        (["--sarif", "theirs.sarif"], "theirs.sarif exists and is not a gradaudit report"),
        (["--sarif", "nowhere/r.sarif"], "no folder nowhere"),
    ],
)
def test_places_are_checked_before_anything_is_run(
    arguments: list[str], words: str, audits: Callable[[str], None], tmp_path: Path
) -> None:
    audits("pass")
    (tmp_path / "x").mkdir()
    (tmp_path / "theirs.xml").write_text('<?xml version="1.0"?>\n<testsuites name="pytest"/>\n')
    (tmp_path / "theirs.md").write_text("# Notes\n\n<!-- gradaudit report -->\n")
    tool = '{"driver": {"name": "ruff"}}'
    theirs = f'{{"version": "2.1.0", "runs": [{{"tool": {tool}}}]}}'
    (tmp_path / "theirs.sarif").write_text(theirs)
    before = files_in(tmp_path)
    ran = run("net.py:make", "--no-html", *arguments, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert "the model's own words" not in ran.err
    assert files_in(tmp_path) == before
    assert (tmp_path / "theirs.sarif").read_text() == theirs


def test_earlier_reports_are_replaced(audits: Callable[[str], None], tmp_path: Path) -> None:
    arguments = [word for kind, name in FILES.items() for word in (OPTION[kind], name)]
    (tmp_path / "r.html").touch()
    for verdict in ("fail", "pass", "inconclusive"):
        audits(verdict)
        (tmp_path / "r.html").write_text("")
        ran = run("net.py:make", *arguments, cwd=tmp_path)
        assert ran.code == CODES[verdict, "fail"], ran.err
    assert 'errors="1"' in (tmp_path / "r.xml").read_text()


def test_configured_places_lie_beside_the_file_and_yield_to_the_command_line(
    audits: Callable[[str], None], tmp_path: Path
) -> None:
    audits("fail")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.gradaudit]\nno-html = true\nsarif = "out.sarif"\njunit = "-"\nannotations = true\n'
    )
    (tmp_path / "below").mkdir()
    ran = run("net.py:make", cwd=tmp_path / "below")
    reads("junit", ran.out, 1)
    assert annotated(ran)
    reads("sarif", (tmp_path / "out.sarif").read_text(), 1)
    ran = run("net.py:make", "--json", "-", cwd=tmp_path / "below")
    assert ran.code == 1
    reads("json", ran.out, 1)


def test_places_in_the_formats_start_at_the_repository(
    audits: Callable[[str], None], tmp_path: Path
) -> None:
    audits("fail")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    ran = run("net.py:make", "--no-html", "--sarif", "-", "--annotations", cwd=tmp_path / "a/b")
    result = json.loads(ran.out)["runs"][0]["results"][0]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "a/b/samples/exploding_mlp.py"
    assert "::error file=a/b/samples/exploding_mlp.py,line=1," in ran.err


TALKING = """
import os

import torch
from torch import nn

import gradaudit

print("imported")


def make():
    os.write(1, b"from the descriptor\\n")
    os.system("echo from a child process")
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    nn.init.constant_(model[0].weight, float("nan"))
    return gradaudit.Subject(model, torch.ones(4, 4))
"""


def test_a_real_run_has_real_lines_and_one_format_alone_on_standard_output(
    tmp_path: Path,
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "net.py").write_text(TALKING)
    arguments = ("--effort", "quick", "--threads", "1", "--no-html", "--markdown", "r.md")
    ran = gradaudit("net.py:make", *arguments, "--sarif", "-", "--annotations", cwd=tmp_path)
    assert ran.code == 1, ran.err
    (only,) = json.loads(ran.out)["runs"]
    line = next(i for i, text in enumerate(TALKING.splitlines(), 1) if "nn.Sequential" in text)
    first = only["results"][0]
    assert first["ruleId"] == "GA001"
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "net.py"
    assert first["locations"][0]["physicalLocation"]["region"]["startLine"] == line
    assert f"::error file=net.py,line={line},title=GA001 non-finite::" in ran.err
    assert f"`net.py:{line}`" in (tmp_path / "r.md").read_text()
    for words in ("imported", "from the descriptor", "from a child process"):
        assert words in ran.err


def test_the_matrix_has_every_format() -> None:
    assert set(FORMATS) == set(FILES) | {"baseline"}  # which is no report: its tests are its own
