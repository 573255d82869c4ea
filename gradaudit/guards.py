"""What stands around a run of the user's code: its time, its exits, its folder, its output."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import click

from gradaudit.errors import GradauditError, ModelError
from gradaudit.gauge import shown
from gradaudit.pacing import Progress
from gradaudit.supervisor import ended_after
from gradaudit.telling import text_of


@contextmanager
def guarded(timeout: float | None, *, quiet: bool) -> Iterator[Progress]:
    """Run the user's code within ``timeout`` seconds; gives what is to be told of the
    progress.

    What it prints goes to standard error (standard output is for results), an exit it asks for
    becomes a :class:`gradaudit.errors.ModelError`, and the working folder comes back.
    """
    with (
        _deadline(timeout),
        nobody_exits(),
        _stays_here(),
        _streams_stay(),
        shown(quiet=quiet) as progress,
    ):
        yield progress


class _TimeUp(BaseException):
    """Not an ``Exception``: nothing between the alarm and the command may take it for its own."""


@contextmanager
def _deadline(seconds: float | None) -> Iterator[None]:
    """Raise once ``seconds`` have passed; unsupported outside the main thread and on Windows."""
    usable = hasattr(signal, "setitimer")
    if seconds is None:
        yield
        return
    if not usable or threading.current_thread() is not threading.main_thread():
        click.echo("gradaudit: --timeout has no effect here", err=True)
        yield
        return

    def give_up(_signal: int, _frame: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        # again every second: an alarm inside a finalizer or a bare except is lost
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            with ended_after(seconds):  # the alarm is not heard inside native code
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeUp:
        raise GradauditError(
            f"gave up after {seconds:g} s (--timeout)", next_step="try --effort quick"
        ) from None
    finally:
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _stays_here() -> Iterator[None]:
    """Come back to the working folder, which the user's code may change: reports go there."""
    before = Path.cwd()
    try:
        yield
    finally:
        os.chdir(before)


class _Unclosed:
    """A stream that stays open when the user's code closes it: more is to be told on it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._stream.flush()


@contextmanager
def _streams_stay() -> Iterator[None]:
    """What is printed goes to standard error, and both streams come back as they were."""
    before = sys.stdout, sys.stderr
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", _Unclosed(sys.stderr))
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def nobody_exits() -> Iterator[None]:
    """Turn an exit the user's code asks for into an error: its code would pass for a verdict."""
    try:
        yield
    except (Exception, KeyboardInterrupt, _TimeUp):
        raise
    except BaseException as error:
        what = f"{type(error).__name__}({text_of(error)})"
        raise ModelError(f"the model's code raised {what}") from error
