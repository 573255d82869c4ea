"""The wheel holds what a checkout keeps beside the package, and works where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import CHECKOUT, FAST, files_in, python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("gradaudit-*.whl")
    return path


def test_holds_everything(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "gradaudit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    templates = {f"gradaudit/templates/{path.name}" for path in (CHECKOUT / "templates").iterdir()}
    assert package | templates | {"gradaudit/samples/exploding_mlp.py"} <= names
    schemas = {f"gradaudit/{kind}.schema.json" for kind in ("report", "run")}
    assert {"gradaudit/py.typed", *schemas} <= names
    strays = {name for name in names if name.split("/")[0] not in ("gradaudit",)}
    assert all(".dist-info/" in name for name in strays)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target)]
    ran = python(*install, "--quiet", "--disable-pip-version-check", str(wheel), cwd=tmp_path)
    assert ran.code == 0, ran.err
    env = {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    where = python("-c", "import gradaudit; print(gradaudit.__file__)", cwd=elsewhere, env=env)
    assert Path(where.out.strip()) == target / "gradaudit" / "__init__.py"
    resource = "from gradaudit.resources import resource; print(resource('templates'))"
    found = python("-c", resource, cwd=elsewhere, env=env).out.strip()
    assert found == str(target / "gradaudit" / "templates")
    ran = python("-m", "gradaudit", "demo", *FAST, "--json", "r.json", cwd=elsewhere, env=env)
    assert ran.code == 0, ran.err
    assert str(CHECKOUT) not in ran.err
    assert files_in(elsewhere) == ["gradaudit-report.html", "r.json"]
    page = (elsewhere / "gradaudit-report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert os.fspath(CHECKOUT) not in page
