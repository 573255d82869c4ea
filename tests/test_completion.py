"""Completion as a shell asks for it: through the environment, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from gradaudit import completion
from gradaudit.cli import cli
from tests.command import CHECKOUT, gradaudit, python

CONFIG = '[[tool.gradaudit.model]]\nname = "monday"\nmodel = "net.py:net"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    for name in ("model.pt", "net.py", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is offered for the last word, and its kind."""
    found: list[CompletionItem] = []

    def note(*_: object) -> int:
        asked = ShellComplete(cli, {}, "gradaudit", completion.VARIABLE)
        found.extend(asked.get_completions([*words[:-1]], words[-1]))
        return 0

    monkeypatch.setenv(completion.VARIABLE, "bash_complete")
    monkeypatch.setattr(completion, "shell_complete", note)
    kinds = {p: p.type for command in cli.commands.values() for p in command.params}
    try:
        assert completion.complete(cli) == 0
    finally:
        for parameter, kind in kinds.items():
            parameter.type = kind
    return {item.value: item.type for item in found}


@pytest.mark.usefixtures("here")
def test_options_of_audit_follow_a_bare_model(monkeypatch: pytest.MonkeyPatch) -> None:
    found = offered("model.pt", "--ba", monkeypatch=monkeypatch)
    assert found == {"--batch-size": "plain", "--baseline": "plain"}
    assert "--data" in offered("--", monkeypatch=monkeypatch)
    assert {"--help", "--version"} <= offered("--", monkeypatch=monkeypatch).keys()
    assert "--folder" not in offered("fix", "model.pt", "--", monkeypatch=monkeypatch)


@pytest.mark.usefixtures("here")
def test_commands_models_and_files_are_offered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = offered("", monkeypatch=monkeypatch)
    assert {"audit", "fix", "explain", "monday", "model.pt", "models/"} <= found.keys()
    assert ".hidden" not in found
    assert list(offered("mo", monkeypatch=monkeypatch)) == ["monday", "model.pt", "models/"]
    assert list(offered("audit", "mon", monkeypatch=monkeypatch)) == ["monday"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "words", [("model.pt", "--data", "d"), ("--sarif", ""), ("inspect", "m"), ("x",)]
)
def test_files_are_left_to_the_shell(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(*words, monkeypatch=monkeypatch) == {words[-1]: "file"}


@pytest.mark.usefixtures("here")
def test_choices_and_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(offered("m.pt", "--effort", "s", monkeypatch=monkeypatch)) == ["standard"]
    assert "GA701" in offered("explain", "GA70", monkeypatch=monkeypatch)
    assert list(offered("m.pt", "--ignore", "GA101,ga10", monkeypatch=monkeypatch)) == [
        "GA101,GA101", "GA101,GA102", "GA101,GA104", "GA101,GA105"]  # fmt: skip


def test_a_wrong_configuration_keeps_nothing_from_being_offered(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "pyproject.toml").write_text("[tool.gradaudit]\nnonsense = 1\n")
    assert "audit" in offered("", monkeypatch=monkeypatch)
    assert offered("mon", monkeypatch=monkeypatch) == {"mon": "file"}


def test_a_shell_asks_and_is_answered_without_torch(here: Path) -> None:
    asked = {completion.VARIABLE: "bash_complete", "COMP_WORDS": "gradaudit mo", "COMP_CWORD": "1"}
    ran = gradaudit(cwd=here, env=asked)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["plain,monday", "plain,model.pt", "plain,models/"]
    ran = python("-X", "importtime", "-m", "gradaudit", cwd=here, env=asked)
    assert "torch" not in {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_clicks_own(shell: str, tmp_path: Path) -> None:
    ran = gradaudit(cwd=tmp_path, env={completion.VARIABLE: f"{shell}_source"})
    assert ran.code == 0
    assert f"{completion.VARIABLE}={shell}_complete" in ran.out


def test_bash_completes_with_the_script(here: Path) -> None:
    """In bash itself, as after ``eval``: the words it would show."""
    command = Path(sys.executable).parent / "gradaudit"
    script = f"""
    eval "$({completion.VARIABLE}=bash_source {command})"
    compopt() {{ echo "compopt $*"; }}
    COMP_WORDS=({command} model.pt --ba) COMP_CWORD=2
    _gradaudit_completion {command}
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=here,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stdout.split() == ["--batch-size", "--baseline"], ran.stderr
