"""The README says what the program does: its tables are generated and its examples are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    exec(compile(BLOCKS[1], "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("pass ")
