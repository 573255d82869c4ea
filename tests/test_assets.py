"""``--assets``: style and script beside the pages, written with them or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gradaudit.assets import check_assets, folder_for, linked
from gradaudit.errors import UsageError
from gradaudit.reports import html
from tests import shared_report
from tests.command import FAST, run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that is audited in no time, and ends in 3."""
    torch.manual_seed(0)
    save_file({"a.weight": torch.randn(8, 8)}, tmp_path / "w.safetensors")
    return tmp_path


def test_pages_link_to_style_and_script_in_a_folder_that_is_made(weights: Path) -> None:
    (weights / "out").mkdir()
    ran = run("w.safetensors", "-o", "out/p.html", "--assets", "st atic", *FAST, cwd=weights)
    assert ran.code == 3, ran.err
    text = (weights / "out" / "p.html").read_text(encoding="utf-8")
    assert 'href="../st%20atic/gradaudit.css"' in text
    assert "<style>" not in text
    for name, content in html.assets().items():
        assert (weights / "st atic" / name).read_text(encoding="utf-8") == content
    again = run("w.safetensors", "-o", "out/p.html", "--assets", "st atic", *FAST, cwd=weights)
    assert again.code == 3, again.err  # an earlier run's files may be replaced


def test_a_page_on_standard_output_is_linked_from_the_working_folder(weights: Path) -> None:
    ran = run("w.safetensors", "-o", "-", "--assets", "static", *FAST, cwd=weights)
    assert 'src="static/gradaudit.js"' in ran.out
    assert {path.name for path in (weights / "static").iterdir()} == set(html.assets())


def test_somebody_elses_style_sheet_is_spared(weights: Path) -> None:
    (weights / "gradaudit.css").write_text("body { color: red }")
    ran = run("w.safetensors", "--assets", ".", *FAST, cwd=weights)
    assert ran.code == 2
    assert ran.said == [
        "gradaudit: error: gradaudit.css exists and is not a gradaudit report; "
        "choose another name or add --force"
    ]
    assert sorted(path.name for path in weights.iterdir()) == ["gradaudit.css", "w.safetensors"]
    forced = run("w.safetensors", "--assets", ".", "--force", *FAST, cwd=weights)
    assert forced.code == 3, forced.err
    page = (weights / "gradaudit-report.html").read_text(encoding="utf-8")
    assert 'href="gradaudit.css"' in page


def test_no_page_and_its_style_contradict_each_other(weights: Path) -> None:
    ran = run("w.safetensors", "--no-html", "--assets", "a", *FAST, cwd=weights)
    assert ran.code == 2
    assert "--no-html and --assets contradict each other" in ran.err
    (weights / "pyproject.toml").write_text('[tool.gradaudit]\nassets = "a"\n')
    ran = run("w.safetensors", "--no-html", *FAST, cwd=weights)
    assert ran.code == 3, ran.err
    assert not (weights / "a").exists()


def test_a_configured_folder_is_taken_from_the_files_own(weights: Path) -> None:
    (weights / "pyproject.toml").write_text('[tool.gradaudit]\nassets = "a"\n')
    (weights / "sub").mkdir()
    ran = run("../w.safetensors", *FAST, cwd=weights / "sub")
    assert ran.code == 3, ran.err
    page = (weights / "sub" / "gradaudit-report.html").read_text(encoding="utf-8")
    assert 'href="../a/gradaudit.css"' in page
    assert (weights / "a" / "gradaudit.css").is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "expected a folder; found a file"), ("no/where", "found no folder no")],
)
def test_a_folder_that_cannot_be_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=words):
        check_assets(name, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def broken(folder: Path) -> None:
    with folder_for(str(folder)):
        assert folder.is_dir()
        raise RuntimeError("no")


def test_an_error_takes_a_new_folder_away_and_leaves_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="no"):
            broken(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_only_pages_are_linked_each_from_its_own_place(tmp_path: Path) -> None:
    text = shared_report.page("weights_only")
    files = {tmp_path / "a" / "p.html": text, tmp_path / "q.html": text, tmp_path / "r.json": "{}"}
    out, result = linked(files, "{}", str(tmp_path / "a"))
    assert 'href="gradaudit.css"' in out[tmp_path / "a" / "p.html"]
    assert 'href="a/gradaudit.css"' in out[tmp_path / "q.html"]
    assert (out[tmp_path / "r.json"], result) == ("{}", "{}")
    assert linked(files, text, None) == (files, text)
    _, linked_result = linked({}, text, "b")
    assert linked_result
    assert 'href="b/gradaudit.css"' in linked_result
