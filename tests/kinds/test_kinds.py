"""Every kind of file is opened for what it is, and as much is measured as the README says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.command import FAST, Ran, checked, gradaudit, run
from tests.kinds.kind import Kind, kinds

KINDS = kinds()
RECIPE = ("--optimizer", "sgd", "--lr", "0.05", "--steps", "100")


def _arguments(kind: Kind, folder: Path) -> tuple[str, ...]:
    path = kind.make(folder)
    if kind.data is None:
        return str(path), *kind.options
    sample = folder / "sample.safetensors"
    save_file(kind.data(), sample)
    return str(path), *kind.options, *RECIPE, "--data", str(sample)


def _run(kind: Kind, *arguments: str, cwd: Path) -> Ran:
    if kind.environment is None:
        return run(*arguments, cwd=cwd)
    return gradaudit(*arguments, cwd=cwd, env=kind.environment(cwd))


def _seen(report: dict[str, Any]) -> set[str]:
    """What of the table's columns a report holds."""
    found = report["measurements"]
    parts = {
        "layers": found["modules"],
        "Jacobian": found["trunk"]["found"] and found["stages"],
        "weights": [row for row in found["weights"] if row["spectral_norm"]],
        "rehearsal": found["rehearsal"],
    }
    return {name for name, rows in parts.items() if rows}


@pytest.mark.parametrize("kind", KINDS, ids=[kind.title for kind in KINDS])
def test_an_audit_measures_what_the_table_says(kind: Kind, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = _arguments(kind, tmp_path)
    ran = _run(kind, *given, *FAST, "--no-html", "--json", "-", cwd=tmp_path)
    assert ran.code in (0, 1, 3), ran.err
    report = checked(ran.out)
    assert report["subject"]["format"] == kind.format
    assert _seen(report) == set(kind.measured) - {"fix"}
    if "rehearsal" not in kind.measured:
        assert report["not_measured"], "what is missing has to be said"


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if "fix" in kind.measured], ids=lambda kind: kind.title
)
def test_what_it_is_cured_of_is_written(kind: Kind, tmp_path: Path) -> None:
    given = _arguments(kind, tmp_path)
    ran = _run(kind, "fix", *given, *FAST, "-o", "fixed", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert (tmp_path / "fixed" / "fix.py").is_file()
    assert (tmp_path / "fixed" / "model.safetensors").is_file()
