"""Running the command as a user does, in this process for speed or in one of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from gradaudit.cli import _guarded, cli

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLES = CHECKOUT / "samples"
FAST = ("--threads", "1", "--effort", "quick")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


def run(*arguments: str, cwd: Path) -> Ran:
    """``gradaudit *arguments`` in the folder ``cwd``, in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, path = Path.cwd(), list(sys.path)
    os.chdir(cwd)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = _guarded(
                lambda: cli.main(list(arguments), prog_name="gradaudit", standalone_mode=False)
            )
    finally:
        os.chdir(before)
        sys.path[:] = path
    return Ran(code, out.getvalue(), err.getvalue())


def audited(*arguments: str, cwd: Path, expect: int) -> dict[str, Any]:
    """The report of a quick audit without HTML, held against its schema."""
    ran = run(*arguments, *FAST, "--no-html", "--json", "-", cwd=cwd)
    assert ran.code == expect, ran.err
    return checked(ran.out)


def checked(text: str) -> dict[str, Any]:
    """A report read from JSON, held against its schema."""
    report: dict[str, Any] = json.loads(text)
    _validator().validate(report)
    return report


@cache
def _validator() -> Any:
    schema = json.loads((CHECKOUT / "gradaudit" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def python(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    """``python *arguments`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def gradaudit(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    """``python -m gradaudit *arguments`` in a process of its own."""
    return python("-m", "gradaudit", *arguments, cwd=cwd, env=env)


def files_in(folder: Path) -> Sequence[str]:
    """Names of everything below ``folder`` but what Python caches."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    )
