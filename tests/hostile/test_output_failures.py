"""Reports that cannot be written: one line, what was there stays, and nothing half-done is left."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gradaudit.errors import UsageError
from gradaudit.output import check_writable, write_folder, write_whole
from tests.command import python
from tests.hostile.harness import Outcome, Place, Zygote, check_line, listing

OLD = '<!doctype html>\n<meta name="generator" content="gradaudit 0.0.1">\nan earlier report\n'


def weights(place: Place) -> Path:
    torch.save({"a.weight": torch.eye(4)}, place.files / "model.pt")
    return place.files / "model.pt"


def asked(place: Place, zygote: Zygote, *options: str, **limits: int) -> Outcome:
    arguments = [str(weights(place)), "--effort", "quick", *options]
    return zygote.ask(place.work, arguments=arguments, **limits)


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_a_full_disk(size: int, place: Place, zygote: Zygote) -> None:
    """Files may grow to so many bytes only: a full disk, as far as writing is concerned."""
    (place.work / "gradaudit-report.html").write_text(OLD)
    (place.work / "report.json").write_text('{"schema": "gradaudit.report/1"}')
    weights(place)
    before = listing(place.work)
    outcome = asked(place, zygote, "--json", "report.json", "--quiet", file_size=size)
    # what it says goes into a file here as well, and is cut like any other
    assert outcome.code == 2 or size < 1_000
    if size >= 1_000:
        check_line(outcome)
        assert "cannot write gradaudit-report.html; found File too large" in outcome.err
    assert listing(place.work) == before


def test_a_full_disk_for_a_cure(tmp_path: Path) -> None:
    script = """
import resource, signal
from pathlib import Path
from gradaudit.errors import UsageError
from gradaudit.output import write_folder, write_whole

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (
    lambda: write_folder(Path("fixed"), {"a": "x", "b": "y" * 5000}, ("a", "b")),
    lambda: write_whole({Path("fixed/a"): "z", Path("fixed/b"): "y" * 5000}),
):
    try:
        write()
    except UsageError as error:
        print(error)
"""
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed" / "a").write_text("before")
    before = listing(tmp_path)
    ran = python("-B", "-c", script.replace('Path("fixed"),', 'Path("new"),'), cwd=tmp_path)
    assert ran.out.splitlines() == [
        "cannot write into new; found File too large",
        "cannot write fixed/b; found File too large",
    ], ran.err
    assert listing(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output(tmp_path: Path) -> None:
    script = """
import os, sys
from gradaudit.errors import UsageError
from gradaudit.output import results_alone_on_stdout, write_stdout

os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
with results_alone_on_stdout():
    try:
        write_stdout("x" * 100_000)
    except UsageError as error:
        print(error, file=sys.stderr)
"""
    ran = python("-B", "-c", script, cwd=tmp_path)
    assert ran.said == ["cannot write to standard output; found No space left on device"]


def _circle(folder: Path) -> str:
    (folder / "a.html").symlink_to("b.html")
    (folder / "b.html").symlink_to("a.html")
    return "a.html"


def _dangling(folder: Path) -> str:
    (folder / "a.html").symlink_to("gone/b.html")
    return "a.html"


def _read_only(folder: Path) -> str:
    (folder / "a.html").write_text(OLD)
    (folder / "a.html").chmod(0o444)
    return "a.html"


def _theirs(folder: Path) -> str:
    (folder / "theirs").write_text("of somebody else")
    (folder / "a.html").symlink_to("theirs")
    return "a.html"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "a.html")
    return "a.html"


PLACES: dict[str, tuple[Callable[[Path], str], str]] = {
    "a folder that is not there": (lambda _: "gone/a.html", "no folder gone"),
    "a folder": (lambda _: ".", "a directory"),
    "a file as a folder": (lambda f: str((f / "x").write_text("x") and "x/a.html"), "no folder x"),
    "a folder that takes nothing": (lambda _: "/proc/a.html", ""),
    "links in a circle": (_circle, ""),
    "a link to nowhere": (_dangling, ""),
    "a link to somebody's file": (_theirs, "is not a gradaudit report"),
    "a link to a device": (lambda f: (f / "a.html").symlink_to("/dev/null") or "a.html", "device"),
    "a device": (lambda _: "/dev/full", "a device or pipe"),
    "a pipe": (_pipe, "a device or pipe"),
    "a read-only report": (_read_only, "read-only"),
    "a name that is too long": (lambda _: "n" * 300, "File name too long"),
    "a path that is too long": (lambda _: "n/" * 3_000, "File name too long"),
    "a name with escapes": (lambda _: "\x1b[31m\n/a.html", "no folder"),
}


@pytest.mark.parametrize("option", ["--output", "--json"])
@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_cannot_be_written(
    name: str, option: str, place: Place, zygote: Zygote
) -> None:
    make, says = PLACES[name]
    target = make(place.work)
    weights(place)
    before = listing(place.work)
    more = () if option == "--output" else ("--no-html",)
    outcome = asked(place, zygote, option, target, "--quiet", *more)
    assert outcome.code == 2
    check_line(outcome)
    assert says in outcome.err
    assert listing(place.work) == before


def test_a_long_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120 + ".html")
    check_writable(path, force=False)
    write_whole({path: "text"})
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_read_only_report_is_replaced_where_asked(tmp_path: Path) -> None:
    path = tmp_path / _read_only(tmp_path)
    check_writable(path, force=True)
    write_whole({path: "anew"})
    assert path.read_text() == "anew"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_each_step_may_fail(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.html"
    path.write_text(OLD)

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"gradaudit.output.os.{step}", failing)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        write_whole({path: "anew"})
    monkeypatch.undo()
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"a.html": OLD}


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_keeps_its_target_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "report.html").write_text(OLD)
    (tmp_path / "latest.html").symlink_to("home/report.html")
    before = listing(tmp_path)

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradaudit.output.os.fsync", failing)
    with pytest.raises(UsageError, match="No space left"):
        write_whole({tmp_path / "latest.html": "anew"})
    assert listing(tmp_path) == before


def test_an_earlier_report_stays_where_the_model_is_refused(place: Place, zygote: Zygote) -> None:
    (place.work / "gradaudit-report.html").write_text(OLD)
    (place.files / "model.pt").write_bytes(b"")
    before = listing(place.work)
    outcome = zygote.ask(place.work, arguments=[str(place.files / "model.pt")])
    assert outcome.code == 2
    assert listing(place.work) == before


def test_reports_go_where_the_command_was_started(place: Place, zygote: Zygote) -> None:
    """A model that changes the working folder does not take them with it."""
    (place.files / "net.py").write_text(
        "import os\nfrom torch import nn\n\n"
        f"def net():\n    os.chdir({str(place.files)!r})\n    return nn.Linear(3, 1)\n"
    )
    arguments = [f"{place.files / 'net.py'}:net", "--effort", "quick", "--json", "report.json"]
    outcome = zygote.ask(place.work, arguments=arguments)
    assert outcome.code in (0, 1, 3), outcome.err
    assert json.loads((place.work / "report.json").read_text())["schema"] == "gradaudit.report/1"
    assert (place.work / "gradaudit-report.html").exists()


def test_a_cure_goes_into_a_folder_or_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write into"):
        write_folder(tmp_path / "gone" / "new", {"a": "x"}, ("a",))
    assert list(tmp_path.iterdir()) == []
