"""The command in a child process, so that whatever ends it, the exit code is one of ours.

A model's forward pass can hang inside native code, where no Python signal handler runs, and a
hostile file can crash a native reader. The parent, which never imports torch, waits, ends the child
once its time is up, and tells what happened.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE = 2.0  # seconds that the child is given to give up by itself
_LEAVING = 5.0  # and, all its work done, to leave: a thread of the model's may never end
_PATIENCE = 1.0  # between two Ctrl-C that are not one pressed twice
_KERNEL = 128  # si_code of a signal that the terminal sent to everybody
_WATCHED = frozenset({"SIGCHLD", "SIGINT", "SIGTERM", "SIGHUP"})
_PR_SET_PDEATHSIG = 1


class Deadline:
    """When the child is to be ended, in a page that both processes share; 0 for never.

    Beside it stands the exit code of a child whose work is done: what the model's own code ends
    the process with is no verdict.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def finish(self, code: int) -> None:
        """The work is done, everything is written, and this is the exit code."""
        self._page[16:32] = struct.pack("dq", time.monotonic(), code)

    @property
    def finished(self) -> tuple[float, int] | None:
        """When the child's work was done, and its exit code; ``None`` before."""
        at, code = struct.unpack("dq", self._page[16:32])
        return (at, code) if at else None

    def set(self, seconds: float | None) -> None:
        """End the child ``seconds`` from now; ``None`` takes it back."""
        at = 0.0 if seconds is None else time.monotonic() + seconds
        self._page[:16] = struct.pack("dd", at, seconds or 0.0)

    @property
    def at(self) -> float:
        """On the monotonic clock, which is the same in both processes; 0 where there is none."""
        return float(struct.unpack("dd", self._page[:16])[0])

    @property
    def seconds(self) -> float:
        """As they were given."""
        return float(struct.unpack("dd", self._page[:16])[1])


_deadline: Deadline | None = None  # of this process, where it is a supervised child


@contextmanager
def ended_after(seconds: float | None) -> Iterator[None]:
    """Have this process ended from outside should the body take longer, and some grace."""
    if _deadline is None or seconds is None:
        yield
        return
    _deadline.set(seconds)
    try:
        yield
    finally:
        _deadline.set(None)


def supervised(run: Callable[[], int], say: Callable[[str], object]) -> int:
    """``run()`` in a child process, and its exit code: 0 to 3 whatever happens.

    ``say`` is given one line where the child was ended or crashed. Where processes cannot be split
    (Windows, macOS, a process with threads) it runs here.
    """
    able = hasattr(os, "fork") and hasattr(signal, "sigtimedwait")
    if not able or threading.active_count() > 1:
        return run()
    deadline = Deadline()
    signals = {getattr(signal, name) for name in _WATCHED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # where they are ignored, as whoever started this process may have left it, children leave
    # nothing to wait for
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    parent = os.getpid()
    sys.stdout and sys.stdout.flush()
    sys.stderr and sys.stderr.flush()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _end_with(parent)
        _refuse_more_than_there_is()
        global _deadline  # noqa: PLW0603 - what the child is, it stays
        _deadline = deadline
        code = run()
        deadline.finish(code)
        return code
    try:
        return _wait(child, deadline, signals, say)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """Die when the parent is killed: nobody would be left to end this process."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(2)


def _refuse_more_than_there_is() -> None:
    """Let an allocation beyond the machine's memory fail, and say so, where it would be granted.

    Linux grants it and kills the process once the memory is used. A failed one is answered: half
    the batch is tried.
    """
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        present = min(_memory())
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY or soft > present:
            resource.setrlimit(resource.RLIMIT_DATA, (present, hard))


def _memory() -> Iterator[int]:
    """Bytes that the machine has, and that this process's control group is given."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            yield int(Path(place).read_text())


def _wait(
    child: int, deadline: Deadline, signals: set[signal.Signals], say: Callable[[str], object]
) -> int:
    pressed = 0.0  # when Ctrl-C was heard first
    while True:
        seen = signal.sigtimedwait(signals, 0.5)
        now = time.monotonic()
        if seen is not None and seen.si_signo != signal.SIGCHLD:
            # the terminal's Ctrl-C reaches the child as well
            if seen.si_signo != signal.SIGINT or seen.si_code != _KERNEL:
                os.kill(child, seen.si_signo)
            if seen.si_signo == signal.SIGINT and pressed and now > pressed + _PATIENCE:
                return _ended(child, deadline, say, "interrupted; nothing was written")
            pressed = pressed or now * (seen.si_signo == signal.SIGINT)
            continue
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _told(status, deadline, say)
        if deadline.finished and now > deadline.finished[0] + _LEAVING:
            return _ended(child, deadline, say, "")
        if deadline.at and now > deadline.at + _GRACE:
            late = f"gave up after {deadline.seconds:g} s (--timeout); try --effort quick"
            return _ended(child, deadline, say, late)


def _ended(child: int, deadline: Deadline, say: Callable[[str], object], why: str) -> int:
    """Kill the child; ``why`` is told unless its work is done."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if deadline.finished:
        return deadline.finished[1]
    say(why)
    return 2


def _told(status: int, deadline: Deadline, say: Callable[[str], object]) -> int:
    if deadline.finished:  # what happens while the interpreter is taken down changes nothing
        return deadline.finished[1]
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        say(
            f"the process ended itself with exit code {code}; nothing was written; check what "
            "the model's code does to end it"
        )
    elif -code == signal.SIGKILL:
        say(
            "the process was killed; if memory ran out, give smaller batches (--batch-size) or "
            "run where there is more"
        )
    elif -code in (signal.SIGTERM, signal.SIGHUP):
        say(f"ended by {signal.Signals(-code).name}; nothing was written")
    else:
        known = {each.value: each.name for each in signal.Signals}
        say(
            f"native code crashed ({known.get(-code, f'signal {-code}')}) on this model; nothing "
            "was written; check the file, and the model's own extensions"
        )
    return 2
