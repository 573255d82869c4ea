"""Writing result files: whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gradaudit.errors import UsageError
from gradaudit.output import check_writable, write_folder, write_whole
from tests.command import python


def test_written_whole(tmp_path: Path) -> None:
    texts = {tmp_path / "a.html": "größer\n", tmp_path / "b.json": "{}\n"}
    write_whole(texts)
    assert {path: path.read_bytes().decode() for path in tmp_path.iterdir()} == texts
    write_whole({tmp_path / "a.html": "anew"})
    assert (tmp_path / "a.html").read_text() == "anew"


def test_all_or_nothing(tmp_path: Path) -> None:
    """The second file cannot be written, so the first one is not touched."""
    first = tmp_path / "a.html"
    first.write_text("before")
    with pytest.raises(UsageError, match=r"cannot write .*gone/b\.json; found No such file"):
        write_whole({first: "after", tmp_path / "gone" / "b.json": "{}"})
    assert first.read_text() == "before"
    assert list(tmp_path.iterdir()) == [first]


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole({tmp_path / "a": "text"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, home = tmp_path / "latest.html", tmp_path / "folder" / "report.html"
    link.symlink_to(home)
    write_whole({link: "text"})
    assert link.is_symlink()
    assert home.read_text() == "text"


def test_no_text_names_are_escaped(tmp_path: Path) -> None:
    write_whole({tmp_path / "a": "mod\udcffel"})
    assert (tmp_path / "a").read_text(encoding="utf-8") == "mod\\udcffel"


OURS = {
    "html": '\n\n<!doctype html>\n<html><head><meta name="generator" content="gradaudit 0.1.0">',
    "json": '{"cause": "none", "schema": "gradaudit.report/1"}',
    "empty": "",
    "sarif": '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "gradaudit"}}}]}',
    "junit": "<?xml version='1.0' encoding='utf-8'?>\n<testsuites name=\"gradaudit\" tests=\"1\"/>",
    "markdown": "<!-- gradaudit report -->\n\n## Fail\n",
}
THEIRS = {
    "page about it": "<!doctype html><title>gradaudit is fine</title>",
    "other json": '{"schema": "mine", "by": "gradaudit"}',
    "sarif of two tools": '{"version": "2.1.0", "runs": ['
    '{"tool": {"driver": {"name": "gradaudit"}}}, {"tool": {"driver": {"name": "ruff"}}}]}',
    "sarif without runs": '{"version": "2.1.0", "runs": []}',
    "odd sarif": '{"version": "2.1.0", "runs": [3, {"tool": ["gradaudit"]}]}',
    "junit of pytest": '<?xml version="1.0"?><testsuites name="pytest tests"/>',
    "notes with the mark": "# Notes\n<!-- gradaudit report -->\n",
    "broken json": '{"schema": "gradaudit.report/1"',
    "code": "import gradaudit\n",
    "configuration": "[tool.gradaudit]\nseed = 1\n",
}


@pytest.mark.parametrize("kind", OURS)
def test_own_reports_are_replaced(kind: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_text(OURS[kind])
    check_writable(tmp_path / "r", force=False)


@pytest.mark.parametrize("kind", THEIRS)
def test_other_files_are_not(kind: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_text(THEIRS[kind])
    with pytest.raises(UsageError, match=r"exists and is not a gradaudit report.*--force"):
        check_writable(tmp_path / "r", force=False)
    check_writable(tmp_path / "r", force=True)


def test_binary_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"{\xff\xfe")
    with pytest.raises(UsageError, match="not a gradaudit report"):
        check_writable(tmp_path / "r", force=False)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match="no permission to write"):
        check_writable(tmp_path / "r", force=False)


STREAMS = """
import os, sys
from gradaudit.output import results_alone_on_stdout

with results_alone_on_stdout():
    print("result \\u00fc")
    os.write(1, b"descriptor\\n")
    os.system("echo child")
    print("hidden", file=sys.__stdout__, flush=True)
print("at exit")
"""


def test_stdout_is_for_results_alone(tmp_path: Path) -> None:
    ran = python("-c", STREAMS, cwd=tmp_path)
    assert ran.out == "result ü\n"
    assert sorted(ran.said) == ["at exit", "child", "descriptor", "hidden"]
    assert ran.code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")
def test_closed_streams_do_no_harm(tmp_path: Path) -> None:
    command = f"{sys.executable} -m gradaudit rules >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode in (0, 2)


NAMES = ("a", "b", "c")


def binary(path: Path) -> None:
    path.write_bytes(b"\0\1")


def test_a_folder_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new"
    write_folder(target, {"a": "größer\n", "b": binary}, NAMES)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "a": "größer\n".encode(),
        "b": b"\0\1",
    }
    assert list(tmp_path.iterdir()) == [target]
    (target / "d").write_text("of another")
    write_folder(target, {"a": "anew", "c": "c"}, NAMES)
    assert sorted(path.name for path in target.iterdir()) == ["a", "c", "d"]
    assert (target / "a").read_text() == "anew"


def test_a_folder_keeps_what_it_had_where_one_file_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    for target in (tmp_path / "new", tmp_path / "old"):
        if target.name == "old":
            target.mkdir()
            (target / "c").write_text("before")
        with pytest.raises(UsageError, match=r"cannot write into .*; found No space left"):
            write_folder(target, {"a": "text", "b": failing}, NAMES)
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "c"]
    replace = os.replace

    def interrupted(old: Path, new: Path) -> None:
        if new == tmp_path / "old" / "b":
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "old", {"a": "text", "b": "text", "c": "text"}, NAMES)
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "c"]
    assert (tmp_path / "old" / "c").read_text() == "before"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    write_folder(tmp_path / "link", {"a": "text"}, NAMES)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "home" / "a").read_text() == "text"


def test_permissions_of_a_folder_are_those_of_a_new_one(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_folder(tmp_path / "new", {"a": "text"}, NAMES)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == 0o640
