"""Names, files and places made to break the outputs: each stays text, bounded, and refused."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gradaudit.config import load_config
from gradaudit.differing import run_diff
from gradaudit.errors import GradauditError, UsageError
from gradaudit.formats import places, rendered
from gradaudit.guards import guarded
from gradaudit.in_force import text as in_force_text
from gradaudit.output import check_spared, write_whole
from gradaudit.records import Report, Where
from gradaudit.reports import markdown, sarif, terminal
from gradaudit.telling import printable
from tests import shared_report, shared_runs

COMMANDS = "word " * 15 + "::add-mask::secret " * 3 + "and ##[add-mask]secret"
ASKED = {
    "output": None,
    "json_file": None,
    "sarif": None,
    "junit": None,
    "markdown": None,
    "write_baseline": None,
    "no_html": False,
    "force": False,
    "assets": None,
}


def _with_names(name: str) -> Report:
    report = shared_report.exploding()
    finding = dataclasses.replace(report.findings[0], where=Where(parameter=name))
    rules = tuple(dataclasses.replace(finding, code=f"GA{i}", why=name) for i in range(60))
    return dataclasses.replace(report, findings=rules, cause=name)


def test_a_summary_in_a_jobs_log_commands_no_runner() -> None:
    report = dataclasses.replace(shared_report.exploding(), cause=COMMANDS)
    file = io.StringIO()
    terminal.render(report, Console(file=file, width=80))
    assert "::add-mask::secret" in file.getvalue()
    assert not [line for line in file.getvalue().splitlines() if line.lstrip().startswith("::")]
    assert "##[" not in file.getvalue()
    assert "##[" not in printable(COMMANDS)


def test_names_of_any_length_keep_code_scannings_limit() -> None:
    run = shared_runs.run(shared_runs.audited(_with_names("x" * 50_000), "y" * 500_000))
    assert len(sarif.render(run)) < 2_000_000


def test_markdown_that_cannot_be_short_still_tells_the_verdict() -> None:
    text = markdown.render(shared_runs.run(_with_names("@_*<" * 2_000)))
    assert len(text.encode()) <= markdown.MOST
    assert "## ❌ Fail" in text
    assert "**Cause.**" in text
    many = [shared_runs.audited(_with_names("@_*<" * 60), "|`@" * 40 + str(i)) for i in range(150)]
    text = markdown.render(shared_runs.run(*many))
    assert len(text.encode()) <= markdown.MOST
    assert "0 of 150 models pass" in text
    assert "more models" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = " + "[" * 5_000 + "]" * 5_000, "nested too deep"),
        ("a." * 100_000 + "a = 1", "nested too deep"),
        ("x = " + "[" * 100 + "]" * 100, "nested too deep"),
        ("lr = " + "9" * 400, "whole numbers of 64 bits"),
        ("[rules.GA101]\ngrowth-max = " + "9" * 400, "whole numbers of 64 bits"),
        ("#" * 10_000_001, "larger than any configuration"),
    ],
)
def test_a_configuration_beyond_bounds_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError, match=told):
        load_config(tmp_path, tmp_path / "c.toml")


def test_what_is_in_force_does_nothing_to_a_terminal() -> None:
    rows = in_force_text._columns([("  a\x1b[2J", "b\x9b\u202e", "c\u2028::error::x\udcff")])
    (line,) = rows
    assert line == r"    a\x1b[2J  b\x9b\u202e  c\u2028::error::x\udcff"


def test_no_output_replaces_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("")
    Path("again.py").symlink_to("net.py")
    for output, read in (("net.py", "net.py:make"), ("again.py", "net.py"), ("./net.py", "net.py")):
        with pytest.raises(UsageError, match=r"net\.py would be replaced"):
            check_spared(Path(output), (None, read))
    check_spared(Path("new.py"), ("net.py", "mse", "new.py:make", "a" * 5_000, "a\0b"))


def test_a_diff_replaces_neither_side_and_takes_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from gradaudit.config import Config

    one = {"verdict": "pass", "subject": {}, "settings": {}, "findings": [], "metrics": {}}
    for name, models in (("old.json", {"m": one}), ("new.json", {})):
        head = {"schema": "gradaudit.baseline/1", "tool": {"version": "0.1.0"}}
        Path(name).write_text(json.dumps({**head, "models": models}))
    for at, told in (("old.json", "old.json would be replaced"), (None, "new.json holds no model")):
        with pytest.raises(GradauditError, match=told):
            run_diff(
                "old.json",
                "new.json",
                markdown=None,
                json_file=at,
                fail_on=None,
                config=Config(),
                everything=False,
                force=True,
            )


def test_nothing_is_written_where_standard_output_takes_no_more(tmp_path: Path) -> None:
    def full() -> None:
        raise UsageError("cannot write to standard output")

    with pytest.raises(UsageError):
        write_whole({tmp_path / "page.html": "text"}, full)
    assert list(tmp_path.iterdir()) == []


def test_pages_are_linked_whatever_the_index_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("a/b", "a-b")
    where = places({**ASKED, "output": "my #1?%41.html"}, names)
    run = shared_runs.run(*(shared_runs.audited(shared_report.sound(), name) for name in names))
    files, _ = rendered(run, where)
    index = files[Path("my #1?%41.html")]
    assert 'href="my%20%231%3F%2541-a-b.html"' in index
    assert 'href="my%20%231%3F%2541-a-b-2.html"' in index
    Path("kept").mkdir()
    with pytest.raises(UsageError, match="two reports would be written"):
        places({**ASKED, "output": "kept/gradaudit.css", "assets": "kept"}, names)


def test_a_model_that_closes_or_replaces_the_streams_leaves_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    before = sys.stdout
    with guarded(None, quiet=True):
        print("from the model")
        sys.stdout.close()
        sys.stderr.close()
        sys.stdout = sys.stderr = io.StringIO()
    assert sys.stdout is before
    assert sys.stderr is told
    assert told.getvalue() == "from the model\n"
