"""Where the working folder lies in its repository."""

from __future__ import annotations

from pathlib import Path

from gradaudit.repository import repository


def test_the_nearest_folder_with_git_is_the_root(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    inner = tmp_path / "a" / "vendored"
    (inner / "b").mkdir(parents=True)
    assert repository(tmp_path / "a")[:2] == (tmp_path, "a")
    assert repository(tmp_path)[:2] == (tmp_path, "")
    (inner / ".git").write_text("gitdir: elsewhere")  # as submodules and worktrees have it
    assert repository(inner / "b")[:2] == (inner, "b")


def test_the_anchor_is_the_nearest_file_that_projects_have(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert repository(below).anchor == ""
    (tmp_path / "README.md").touch()
    assert repository(below).anchor == "../../README.md"
    (tmp_path / "a" / "pyproject.toml").touch()
    assert repository(below).anchor == "../pyproject.toml"
    assert repository(tmp_path).anchor == "README.md"


def test_nothing_above_the_root_counts(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    inner = tmp_path / "inner"
    (inner / ".git").mkdir(parents=True)
    assert repository(inner).anchor == ""
