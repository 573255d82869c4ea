"""The pre-commit hooks, run by pre-commit, and the snippets for other CI systems in the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import CHECKOUT
from tests.test_action import CONFIG, MODEL

HOOKS = CHECKOUT / ".pre-commit-hooks.yaml"
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def do(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def repository(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_pre_commit_takes_the_manifest() -> None:
    ran = do("pre-commit", "validate-manifest", str(HOOKS), cwd=CHECKOUT)
    assert ran.returncode == 0, ran.stdout


def test_the_hooks_are_run_by_pre_commit(tmp_path: Path) -> None:
    """With the packages of this environment: one of its own would install torch."""
    hooks, mine = tmp_path / "hooks", tmp_path / "mine"
    hooks.mkdir()
    mine.mkdir()
    manifest = yaml.safe_load(HOOKS.read_text())
    for each in manifest:
        assert each["language"] == "python"
        each["language"] = "system"
    (hooks / ".pre-commit-hooks.yaml").write_text(yaml.safe_dump(manifest))
    (mine / "my model.py").write_text(MODEL)
    (mine / "pyproject.toml").write_text(CONFIG)
    (mine / "notes.onnx").write_text("no model\n")
    run = ("pre-commit", "try-repo", str(repository(hooks)), "--all-files", "--verbose")
    ran = do(*run, cwd=repository(mine), PRE_COMMIT_HOME=str(tmp_path / "home"))
    assert ran.returncode == 1
    configured, by_file = re.split(r"^gradaudit \(model files\)", ran.stdout, flags=re.M)
    assert re.search(r"^gradaudit\.+Failed$", configured, re.M)
    assert "exit code: 1" in configured
    assert "GA101" in configured
    assert "exit code: 2" in by_file
    assert "notes.onnx" in by_file
    assert sorted(path.name for path in mine.glob("gradaudit-*")) == []


def snippets(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL)


def lines_of(script: Any) -> list[str]:
    return [script] if isinstance(script, str) else list(script)


def test_the_workflow_names_inputs_of_the_action() -> None:
    known = yaml.safe_load((CHECKOUT / "action.yml").read_text())["inputs"]
    steps = [
        step
        for text in snippets("yaml")
        if "uses:" in text
        for step in (yaml.safe_load(text) if text.startswith("- ") else _steps(text))
        if "gradaudit@" in str(step.get("uses"))
    ]
    assert len(steps) >= 2
    for step in steps:
        assert set(step.get("with", {})) <= set(known)


def _steps(text: str) -> list[dict[str, Any]]:
    loaded = yaml.safe_load(text)
    return [step for job in loaded["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("schema", "mark"), [("gitlab-ci", "reports:"), ("github-workflows", "runs-on:")]
)
def test_the_snippets_are_valid(schema: str, mark: str, tmp_path: Path) -> None:
    found = [text for text in snippets("yaml") if mark in text]
    assert found
    for number, text in enumerate(found):
        (tmp_path / f"{number}.yml").write_text(text)
    files = [str(path) for path in tmp_path.iterdir()]
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}")
    ran = do(*command, *files, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout


def test_the_lines_of_other_systems_run_and_write_what_is_collected(tmp_path: Path) -> None:
    """GitLab's and Jenkins's, one after the other, on a model that passes."""
    (gitlab,) = (yaml.safe_load(t) for t in snippets("yaml") if "junit:" in t)
    (jenkins,) = (t for t in snippets("groovy") if "gradaudit" in t)
    (tmp_path / "my model.py").write_text(MODEL)
    (tmp_path / "pyproject.toml").write_text(CONFIG.partition("[[")[0])
    job = gitlab["gradaudit"]
    commands = [line for line in lines_of(job["script"]) if not line.startswith("pip ")]
    commands += re.findall(r"sh '([^']*gradaudit[^']*)'", jenkins)
    assert len(commands) == 2
    collected = [job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]]
    collected += re.findall(r"(?:junit|pattern:|reportDir:) '([^']+)'", jenkins)
    for command in commands:
        line = re.sub(r"(?<=gradaudit )[\w.]+:\w+", "'my model.py:subject'", command)
        assert "my model.py" in line
        ran = do("bash", "-c", line, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    for pattern in collected:
        assert list(tmp_path.glob(pattern)), pattern
