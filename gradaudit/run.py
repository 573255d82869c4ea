"""One run of a command: audit or fix, render, write, and the exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gradaudit.errors import GradauditError, ModelError, UsageError
from gradaudit.output import (
    check_folder,
    check_writable,
    write_folder,
    write_stdout,
    write_whole,
)
from gradaudit.settings import Settings
from gradaudit.supervisor import ended_after
from gradaudit.telling import text_of

if TYPE_CHECKING:
    from gradaudit.measure import Progress as Tell

_READ = ("data", "loss", "build", "recipe_file")  # options that name files
CURE_FILES = ("model.safetensors", "recipe.json", "fix.py", "report.html", "report.json")
DEFAULT_REPORT = "gradaudit-report.html"


def run_audit(model: str, settings: Settings, options: Mapping[str, Any]) -> int:
    """Audit ``model``, write what was asked for, print the summary, and return the exit code.

    Nothing is written until every output is rendered. What the user's code prints goes to standard
    error: standard output is for results.
    """
    places = _places(options)
    with (
        _deadline(options["timeout"]),
        _nobody_exits(),
        _stays_here(),
        redirect_stdout(sys.stderr),
        _progress(quiet=options["quiet"]) as tell,
    ):
        from gradaudit.auditing import audit_file
        from gradaudit.gate import exit_code
        from gradaudit.reports import html, json_report, terminal

        report = audit_file(model, settings, tell)
        tell("writing the report")
        renderers = {"html": html.render, "json": json_report.render}
        texts = {kind: renderers[kind](report) for kind in places}
    write_whole({Path(place): texts[kind] for kind, place in places.items() if place != "-"})
    for kind, place in places.items():
        if place == "-":
            write_stdout(texts[kind])
    if not options["quiet"]:
        console = Console(stderr=True, highlight=False)
        terminal.render(report, console)
        for kind, place in places.items():
            if place != "-":
                console.print(f"{kind.upper()} report: {place}", markup=False, soft_wrap=True)
    return exit_code(report.verdict, options["fail_on"] or "fail")


def run_fix(model: str, settings: Settings, options: Mapping[str, Any]) -> int:
    """Search for a cure, write what is proven and the reports, and return the exit code.

    As in :func:`run_audit` nothing is written until every file is there.
    """
    folder = Path(options["folder"])
    check_folder(folder, CURE_FILES, force=options["force"])
    _spared(folder, (model, *(options[name] for name in _READ)))
    with (
        _deadline(options["timeout"]),
        _nobody_exits(),
        _stays_here(),
        redirect_stdout(sys.stderr),
        _progress(quiet=options["quiet"]) as tell,
    ):
        from gradaudit.fixing import fix_file
        from gradaudit.reports import html, json_report, terminal
        from gradaudit.written import cure_files, ending

        fixed = fix_file(model, settings, tell)
        tell("writing the cure")
        files = {
            **cure_files(fixed),
            "report.html": html.render(fixed.report),
            "report.json": json_report.render(fixed.report),
        }
    write_folder(folder, files, CURE_FILES)
    end = ending(fixed)
    if not options["quiet"]:
        console = Console(stderr=True, highlight=False)
        terminal.render(fixed.report, console)
        for line in filter(None, (end.line, f"Written to {folder}: {', '.join(files)}")):
            console.print(line, markup=False, soft_wrap=True)
    return end.code


def _spared(folder: Path, read: Sequence[str | None]) -> None:
    """Raise ``UsageError`` where a file that is read would be replaced."""
    replaced = {(folder / name).resolve() for name in CURE_FILES}
    for spec in filter(None, read):
        home, colon, _ = spec.rpartition(":")
        for path in (spec, *([home] if colon else [])):
            if Path(path).resolve() in replaced and Path(path).exists():
                raise UsageError(f"{path} would be replaced", next_step="choose another folder")


def _places(options: Mapping[str, Any]) -> dict[str, str]:
    """Where each format goes; raises ``UsageError`` where it could not be written."""
    places = {}
    if not options["no_html"]:
        places["html"] = options["output"] or DEFAULT_REPORT
    if options["json_file"]:
        places["json"] = options["json_file"]
    files = [Path(place) for place in places.values() if place != "-"]
    for file in files:
        check_writable(file, force=options["force"])
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError(f"two reports would be written to {files[0]}", expected="a file for each")
    return places


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Tell]:
    """A line on standard error that says what is being measured; nothing in a pipe."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what: bar.update(task, description=what)


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


@contextmanager
def _nobody_exits() -> Iterator[None]:
    """Turn an exit the user's code asks for into an error: its code would pass for a verdict."""
    try:
        yield
    except (Exception, KeyboardInterrupt, _TimeUp):
        raise
    except BaseException as error:
        what = f"{type(error).__name__}({text_of(error)})"
        raise ModelError(f"the model's code raised {what}") from error
