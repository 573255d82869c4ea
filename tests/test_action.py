"""``action.yml``: its steps are run as they stand, in a repository with a model of ten lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradaudit.records import Comparison, FindingChange, Known
from gradaudit.reports import json_report
from tests import shared_report, shared_runs
from tests.actions import ACTION, Job, Runner, action
from tests.command import checked

MODEL = """\
import torch
from torch import nn

import gradaudit

layers = [m for _ in range(20) for m in (nn.Linear(16, 16), nn.Tanh())]
def subject(gain=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(*layers[: 40 if gain > 1 else 4], nn.Linear(16, 2))
    for weight in net.parameters():
        if weight.ndim == 2:
            nn.init.xavier_normal_(weight, gain)
    x = torch.randn(64, 16)
    return gradaudit.Subject(
        net, (x, (x[:, 0] > 0).long()), "cross_entropy", lambda p: torch.optim.Adam(p, lr=1e-3)
    )
def broken():
    return subject(gain=4.0)
"""
CONFIG = """\
[tool.gradaudit]
effort = "quick"
threads = 1

[[tool.gradaudit.model]]
name = "sound"
model = "my model.py:subject"

[[tool.gradaudit.model]]
name = "broken"
model = "my model.py:broken"
"""
GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$(dirname "$0")/gh.log"
case "$*" in *--paginate*) cat "$(dirname "$0")/known" ;; esac
for word; do case "$word" in body=@*) cp "${word#body=@}" "$(dirname "$0")/body" ;; esac; done
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder, scratch = tmp_path_factory.mktemp("it's a repo"), tmp_path_factory.mktemp("temp")
    (folder / "my model.py").write_text(MODEL)
    (folder / "pyproject.toml").write_text(CONFIG)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (scratch / "bin").mkdir()
    (scratch / "bin" / "known").write_text("")
    (scratch / "bin" / "gh").write_text(GH)
    (scratch / "bin" / "gh").chmod(0o755)
    pull = {"github.repository": "some/repo", "github.event.pull_request.number": "7"}
    return Runner(folder, scratch, pull)


@pytest.fixture(scope="module")
def failed(runner: Runner) -> Job:
    """The models that are configured, one of which fails."""
    return runner.use(comment="true", name="nightly")


def test_a_model_that_fails_ends_the_job_in_1_after_everything_is_kept(failed: Job) -> None:
    assert failed.code == 1
    assert failed.outputs["verdict"] == "fail"
    assert failed.outputs["exit-code"] == "1"
    run = json.loads(Path(failed.outputs["json"]).read_text())
    assert [(each["name"], each["exit_code"]) for each in run["models"]] == [
        ("sound", 0),
        ("broken", 1),
    ]
    assert Path(failed.outputs["report"]).read_text().startswith("<!doctype html>")
    assert failed.used["github/codeql-action/upload-sarif"] == {
        "sarif_file": failed.outputs["sarif"],
        "category": "nightly",
    }
    assert json.loads(Path(failed.outputs["sarif"]).read_text())["runs"][0]["results"]
    kept = failed.used["actions/upload-artifact"]
    assert kept["name"] == "nightly"
    assert Path(kept["path"]) == Path(failed.outputs["report"]).parent
    assert "actions/setup-python" not in failed.used


def test_the_summary_is_the_reports_markdown_and_the_log_annotates(failed: Job) -> None:
    assert failed.summary == Path(failed.outputs["markdown"]).read_text(encoding="utf-8")
    assert "GA101" in failed.summary
    assert re.search(r"^::error file=my model\.py,line=\d+,title=.*GA101", failed.log, re.M)


def test_the_comment_is_made_once_and_then_renewed(failed: Job, runner: Runner) -> None:
    fake = runner.scratch / "bin"
    asked = (fake / "gh.log").read_text().splitlines()
    assert asked[0].startswith("api --paginate repos/some/repo/issues/7/comments --jq ")
    assert asked[1].startswith("api --silent --method POST repos/some/repo/issues/7/comments ")
    assert (fake / "body").read_text() == f"<!-- gradaudit nightly -->\n{failed.summary}"
    (fake / "known").write_text("41\n42\n")
    script = next(s for s in action()["runs"]["steps"] if s["name"] == "Comment")
    only = {**action(), "runs": {"steps": [script]}, "outputs": {}}
    (fake / "gh.log").write_text("")
    markdown = {"steps.audit.outputs.markdown": failed.outputs["markdown"]}
    again = Runner(runner.folder, runner.scratch, {**runner.github, **markdown})
    assert again.use(only, comment="true").code == 0
    assert "--method PATCH repos/some/repo/issues/comments/41 " in (fake / "gh.log").read_text()


def test_a_model_that_passes_ends_in_0_and_inputs_stay_words(runner: Runner) -> None:
    hostile = '$(touch run); `touch run` "$HOME" \' && touch run #'
    (runner.folder / hostile.replace("/", "")).with_suffix(".toml").write_text(
        "[tool.gradaudit]\neffort = 'quick'\n"
    )
    job = runner.use(
        model="\n  my model.py:subject \n\n",
        args="""--threads 1 --seed '3' --lr "1e-3" """,
        config=hostile + ".toml",
        upload_sarif="false",
        upload_report="false",
        install="no",
    )
    assert job.code == 0, job.log
    assert job.outputs["verdict"] in ("pass", "warn")
    report = checked(Path(job.outputs["json"]).read_text())
    assert (report["seed"], report["recipe"]["lr"]) == (3, 1e-3)
    assert report["settings"]["effort"] == "quick"
    assert job.used == {}
    assert not list(runner.folder.rglob("run"))


def test_what_cannot_run_ends_in_2_with_the_reason_in_the_summary(runner: Runner) -> None:
    job = runner.use(model="no such.pt", fail_on="never", python_version="3.12")
    assert job.code == 2
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == ("error", "2")
    assert "gradaudit could not run" in job.summary
    assert "    there is no file and no configured model 'no such.pt'" in job.summary
    assert re.search(r"^::error title=gradaudit could not run::there is no file", job.log, re.M)
    assert list(job.used) == ["actions/setup-python"]  # nothing is there to be kept
    assert job.outputs["sarif"] == ""


def test_with_a_baseline_the_verdict_is_what_the_gate_goes_by(tmp_path: Path) -> None:
    script = next(s for s in action()["runs"]["steps"] if s["name"] == "Audit")["run"]
    code = re.search(r"<< 'END'\n(.*?)\nEND\n", script, re.S)
    assert code
    fails, unknown = shared_report.exploding(), shared_report.weights_only()
    known = Comparison("base.json", (), ())
    note = FindingChange("new", None, Known("GA1", "x", "y", "note", None), "")
    warn = replace(note, now=Known("GA1", "x", "y", "warn", None))
    worse = shared_runs.compared(fails, worse_metric=True).comparison
    for report in (
        fails,
        replace(fails, comparison=known),
        replace(fails, comparison=worse),
        replace(fails, comparison=replace(known, findings=(note, warn))),
        replace(unknown, comparison=replace(known, findings=(note, warn))),
    ):
        (tmp_path / "report.json").write_text(json_report.render(report))
        told = subprocess.run(
            [sys.executable, "-", "1", str(tmp_path / "report.json")],
            input=code[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == report.outcome


def test_no_input_is_put_into_a_script() -> None:
    for step in action()["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@v\d+", step["uses"])


def test_the_action_is_valid_and_every_input_is_used() -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-actions", str(ACTION)),
        ],
        check=True,
        capture_output=True,
    )
    text = ACTION.read_text()
    for name in action()["inputs"]:
        assert f"inputs.{name} " in text or f"inputs.{name}\n" in text, name


def test_a_model_is_never_an_option_and_an_open_quote_no_default(runner: Runner) -> None:
    job = runner.use(model="--version", install="no")
    assert job.code == 2
    assert "'--version'" in job.log
    job = runner.use(model="my model.py:subject", args="--fail-on 'warn", install="no")
    assert job.code == 2
    assert "args has a quote that is not closed" in job.log
