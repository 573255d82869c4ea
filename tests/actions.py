"""A runner for ``action.yml``: its own steps in a shell, those of others noted down with inputs.

As GitHub does: expressions are put in before a step starts, each step has a file for its outputs
and one for the summary, and after a failed step only those run that ask for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.command import CHECKOUT

ACTION = CHECKOUT / "action.yml"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def action() -> dict[str, Any]:
    """The action as it stands in the checkout."""
    loaded: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return loaded


@dataclass
class Job:
    """What one use of the action left behind."""

    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    code: int = 0
    used: dict[str, dict[str, str]] = field(default_factory=dict)  # inputs of others' actions


class Runner:
    """One job in ``folder``, a repository; ``scratch`` is what GitHub calls the runner's temp."""

    def __init__(self, folder: Path, scratch: Path, github: Mapping[str, str]) -> None:
        self.folder, self.scratch = folder, scratch
        self.github = {"github.action_path": str(CHECKOUT), "github.token": "t", **github}

    def use(self, only: Mapping[str, Any] | None = None, **given: str) -> Job:
        """Run all steps of the action, or of ``only``, with these inputs, ``_`` for ``-``."""
        text, job = only or action(), Job()
        names = {name.replace("_", "-"): value for name, value in given.items()}
        assert names.keys() <= text["inputs"].keys()
        known = dict(self.github)
        for name, described in text["inputs"].items():
            known[f"inputs.{name}"] = names.get(name, self._fill(described["default"], known))
        for step in text["runs"]["steps"]:
            if job.code == 0 and self._wanted(step.get("if", ""), known):
                self._step(step, known, job)
        for name, described in text["outputs"].items():
            job.outputs[name] = self._fill(described["value"], known)
        return job

    def _fill(self, text: str, known: Mapping[str, str]) -> str:
        return _EXPRESSION.sub(lambda found: known.get(found[1], ""), str(text))

    def _wanted(self, condition: str, known: Mapping[str, str]) -> bool:
        """Equalities, joined by ``&&``."""
        for part in filter(None, condition.split(" && ")):
            left, sign, right = part.partition(" == " if " == " in part else " != ")
            assert sign, condition
            assert right[0] == right[-1] == "'", condition
            if (known.get(left, "") == right[1:-1]) != (sign == " == "):
                return False
        return True

    def _step(self, step: Mapping[str, Any], known: dict[str, str], job: Job) -> None:
        if "uses" in step:
            values = {key: self._fill(text, known) for key, text in step.get("with", {}).items()}
            job.used[step["uses"].partition("@")[0]] = values
            return
        assert step["shell"] == "bash"
        outputs, summary = self.scratch / "outputs", self.scratch / "summary"
        for file in (outputs, summary):
            file.write_text("")
        here = self.folder / self._fill(step.get("working-directory", "."), known)
        done = subprocess.run(
            # as GitHub starts it for `shell: bash`
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=here,
            env={
                **self._environment(outputs, summary),
                **{key: self._fill(text, known) for key, text in step.get("env", {}).items()},
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        job.log += done.stdout + done.stderr
        job.summary += summary.read_text(encoding="utf-8")
        for line in outputs.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            known[f"steps.{step['id']}.outputs.{name}"] = value
        if done.returncode and not step.get("continue-on-error"):
            job.code = done.returncode

    def _environment(self, outputs: Path, summary: Path) -> dict[str, str]:
        path = [str(self.scratch / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        return {
            **os.environ,
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(CHECKOUT),
            "RUNNER_TEMP": str(self.scratch),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(summary),
        }
