"""Whatever ends a run, the exit code is one of four and one line says what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import python

MODEL = """\
import collections, ctypes, itertools, os, pathlib, signal, sys, time
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.layer, self.act = nn.Linear(4, 1), act

    def forward(self, x):
        pathlib.Path("started").write_text(str(os.getpid()))
        self.act()
        return self.layer(x)


def deaf():  # native code that holds the interpreter and hears no signal
    return Net(lambda: collections.deque(itertools.repeat(0), maxlen=0))


def slow():
    return Net(lambda: time.sleep(60))


def crash():
    return Net(lambda: ctypes.string_at(0))


def killed():
    return Net(lambda: os.kill(os.getpid(), signal.SIGKILL))


def greedy():  # more than there is, in parts that each are granted, and never written to
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Net(lambda: [torch.empty(there // 3, dtype=torch.uint8) for _ in range(5)])


def leave():
    return Net(lambda: os._exit(77))
"""
ARGUMENTS = ("--input", "float32[4,4]", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MODEL)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deaf", "gave up after 3 s (--timeout)"),
        ("slow", "gave up after 3 s (--timeout)"),
        ("crash", "native code crashed (SIGSEGV)"),
        ("killed", "the process was killed; if memory ran out"),
    ],
)
def test_a_run_that_is_ended_says_so_in_one_line(folder: Path, name: str, words: str) -> None:
    timeout = ("--timeout", "3") if "--timeout" in words else ()
    ran = python("-m", "gradaudit", f"net.py:{name}", *ARGUMENTS, *timeout, cwd=folder)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.said) == 1
    assert ran.said[0].startswith("gradaudit: error: ")
    assert words in ran.said[0]
    assert not list(folder.glob("*.html"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is granted otherwise elsewhere")
def test_memory_that_is_not_there_is_not_granted(folder: Path) -> None:
    ran = python("-m", "gradaudit", "net.py:greedy", *ARGUMENTS, cwd=folder)
    assert ran.code == 2
    assert "out of memory on a batch of 1" in ran.err


def test_an_exit_code_of_the_models_own_is_no_verdict(folder: Path) -> None:
    assert python("-m", "gradaudit", "net.py:leave", *ARGUMENTS, cwd=folder).code == 2


def _started(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """The command in the middle of a forward pass, and the process that runs it."""
    command = [sys.executable, "-m", "gradaudit", "net.py:slow", *ARGUMENTS]
    process = subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    mark = folder / "started"
    for _ in range(600):
        if mark.exists() and mark.read_text():
            return process, int(mark.read_text())
        time.sleep(0.1)
    process.kill()
    pytest.fail("the model was never run")


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, "interrupted; nothing was written"),
        (signal.SIGTERM, "ended by SIGTERM; nothing was written"),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_to_the_command_ends_it(folder: Path, number: int, words: str) -> None:
    process, child = _started(folder)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not _runs(child)


@pytest.mark.skipif(sys.platform != "linux", reason="a child outlives its parent elsewhere")
def test_who_kills_the_command_kills_its_child(folder: Path) -> None:
    process, child = _started(folder)
    process.kill()
    process.communicate(timeout=60)  # would wait for the child's end of the pipes
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.1)
    assert not _runs(child)
    assert os.getpid() != child
