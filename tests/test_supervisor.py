"""Whatever ends a run, the exit code is one of four and one line says what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.command import python

MODEL = """\
import collections, ctypes, itertools, os, pathlib, signal, sys, threading, time
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


def pass_():
    return Net(lambda: os._exit(0))


def unknown():  # a signal that has no name
    return Net(lambda: os.kill(os.getpid(), signal.SIGRTMIN + 6))


def stay():
    stayed = []

    def act():
        if not stayed:
            stayed.append(threading.Thread(target=time.sleep, args=(1000,)))
            stayed[0].start()

    return Net(act)
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
        ("leave", "ended itself with exit code 77; nothing was written"),
        ("pass_", "ended itself with exit code 0; nothing was written"),
        ("unknown", "native code crashed (signal "),
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


def test_a_thread_that_never_ends_keeps_nobody_waiting(folder: Path) -> None:
    ran = python("-m", "gradaudit", "net.py:stay", *ARGUMENTS, "--effort", "quick", cwd=folder)
    assert ran.code == 0
    assert "report: gradaudit-report.html" in ran.err
    assert (folder / "gradaudit-report.html").exists()


def test_children_may_have_been_ignored_by_who_started_the_command(folder: Path) -> None:
    ignored = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    start = "os.execv(sys.executable, [sys.executable, '-m', 'gradaudit', 'inspect', 'net.py'])"
    ran = python("-c", ignored + start, cwd=folder)
    assert ran.code == 2
    assert len(ran.said) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize(("stream", "where"), [("stdout", "broken"), ("stderr", "full")])
def test_what_nobody_takes_is_no_verdict(folder: Path, stream: str, where: str) -> None:
    reading, pipe = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "gradaudit", "inspect", "weights.safetensors"]
    save_file({"weight": torch.ones(2, 2)}, folder / "weights.safetensors")
    with open("/dev/full", "wb") as full:
        streams[stream] = full.fileno() if where == "full" else pipe
        if stream == "stderr":
            command[-1] = "net.py"  # which is no file to inspect
        ran = subprocess.run(
            command,
            check=False,
            cwd=folder,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            timeout=60,
        )
    os.close(pipe)
    assert ran.returncode == 2


def _started(folder: Path, name: str = "slow") -> tuple[subprocess.Popen[str], int]:
    """The command in the middle of a forward pass, and the process that runs it."""
    command = [sys.executable, "-m", "gradaudit", f"net.py:{name}", *ARGUMENTS]
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


def test_a_second_interrupt_ends_what_does_not_hear_the_first(folder: Path) -> None:
    process, child = _started(folder, "deaf")
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "gradaudit: error: interrupted; nothing was written\n"
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
