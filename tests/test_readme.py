"""The README says what the program does: its tables are generated and its examples are run."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.config import load_config
from gradaudit.formats import FORMATS
from tests.actions import action
from tests.command import python, run
from tests.readme import README, renewed

TEXT = README.read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_generated_tables_are_up_to_date() -> None:
    assert renewed(TEXT) == TEXT, "run `make readme`"
    assert "| GA101 | exploding-jacobian |" in TEXT
    assert "| `--data` |" in TEXT


def test_the_factory_is_audited_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradaudit.auditing import audit_file
    from gradaudit.settings import Settings

    (tmp_path / "train.py").write_text(BLOCKS[0])
    monkeypatch.chdir(tmp_path)
    report = audit_file("train.py:subject", Settings(effort="quick"))
    assert report.findings[0].code == "GA102"


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (b for b in BLOCKS if "gradaudit.audit(" in b and "def test_" not in b)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("pass ")


def test_the_test_example_fails_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line; of equal layers another may be the worst, and last digits differ."""
    (block,) = (b for b in BLOCKS if "def test_" in b)
    (shown,) = re.findall(r"```text\n>(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "train.py").write_text(BLOCKS[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    with pytest.raises(gradaudit.VerdictError) as raised:
        names["test_the_model_trains"]()
    lines = [line.removeprefix("E").strip() for line in shown.splitlines()[1:]]
    cause = lines[0].removeprefix("gradaudit.errors.VerdictError: ").removesuffix(" [...]")
    plain = [re.sub(r"in [\w.]+:|-?\d+\.\d+|\d+(?= lines)", "#", line) for line in lines[1:]]
    said = str(raised.value).splitlines()
    assert said[0].startswith(cause)
    printed = [re.sub(r"in [\w.]+:|-?\d+\.\d+|\d+(?= lines)", "#", line.strip()) for line in said]
    assert plain == [line for line in printed if line in plain]


def test_the_configuration_example_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(block)
    config = load_config(tmp_path)
    assert [model.name for model in config.models] == ["ranker", "encoder"]
    assert config.part.severities == {"GA503": "note"}
    assert config.part.limits["growth_max"].value == 1e4
    assert config.part.reasons == {"GA606": "the batch is what fits"}
    assert config.part.layers[0].ignore == ("GA301",)


def test_the_formats_and_inputs_are_those_there_are() -> None:
    inputs = re.search(r"^Inputs: (.*?)\. Outputs: (.*?)\.$", TEXT, re.DOTALL | re.MULTILINE)
    assert inputs is not None
    named = [re.findall(r"`([\w-]+)`", part) for part in inputs.groups()]
    assert [sorted(each) for each in named] == [
        sorted(action()[kind]) for kind in ("inputs", "outputs")
    ]
    table = TEXT.partition("### Formats")[2].partition("### ")[0]
    options = {f"--{each.option.replace('_file', '')}" for each in FORMATS.values()}
    options = options - {"--output", "--write_baseline"} | {"-o", "--annotations"}
    assert set(re.findall(r"^\| `(-[\w-]+)", table, re.MULTILINE)) == options


def test_the_onnx_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (b for b in BLOCKS if "load_onnx" in b)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tensor([[2., 2., 2., 0.],")


def test_the_onnx_example_shows_what_the_command_prints(tmp_path: Path) -> None:
    (block,) = (b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if ".onnx " in b)
    make, command, shown = block.split("\n", 2)
    script = README.parent / make.split()[2]
    assert python(str(script), str(tmp_path), cwd=tmp_path).code == 0
    ran = run(*command.split()[2:], "--threads", "1", cwd=tmp_path)
    assert ran.code == 1
    assert (tmp_path / "gradaudit-report.html").is_file()
    said = " ".join(shown.split()).removesuffix("HTML report: gradaudit-report.html").strip()
    assert said in " ".join(ran.err.split())


class _Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_the_inspecting_example_shows_what_the_command_prints(tmp_path: Path) -> None:
    (block,) = (b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if "inspect" in b)
    command, shown = block.split("\n", 1)
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    torch.save({"model": net.state_dict(), "settings": _Command()}, tmp_path / "theirs.pt")
    ran = run(*command.split()[2:], cwd=tmp_path)
    assert ran.code == 1
    assert ran.out.splitlines()[1:] == shown.splitlines()[1:]
    assert ran.out.startswith("theirs.pt: torch zip, ")
    assert not (tmp_path / "ran").exists()


def test_the_first_example_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but which of thirty equal layers is the worst, which hangs on the last digits."""
    (block,) = (b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if "model.pt" in b)
    command, _, shown = block.partition("\n")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["exploding_mlp.py", str(tmp_path)])
        runpy.run_path(str(README.parent / "samples" / "exploding_mlp.py"), run_name="__main__")
    ran = run(*command.split()[2:], "--threads", "1", cwd=tmp_path)
    printed = " ".join(ran.err.split())
    assert ran.code == 1
    pieces = re.split(r"`\d+\.weight`|HTML report", " ".join(shown.split()))
    assert len(pieces) == 3
    assert all(piece.strip() in printed for piece in pieces[:2])
    assert "HTML report: gradaudit-report.html" in printed


def test_the_mending_example_shows_what_the_command_prints_and_trains(tmp_path: Path) -> None:
    (block,) = (b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if " fix " in b)
    command, _, shown = block.partition("\n")
    (tmp_path / "train.py").write_text(BLOCKS[0])
    ran = run(*command.split()[2:], "--threads", "1", cwd=tmp_path)
    assert ran.code == 0, ran.err
    printed = " ".join(ran.err.split())
    pieces = re.split(r"`\d+\.weight`|\.\.\.", " ".join(shown.split()))
    assert len(pieces) == 4
    assert all(piece.strip() in printed for piece in pieces)
    (example,) = (b for b in BLOCKS if "fixed.fix" in b)
    trained = python("-c", example, cwd=tmp_path)
    assert trained.code == 0, trained.err
    assert float(trained.out.removeprefix("loss ")) < 0.1
