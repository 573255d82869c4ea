"""One run of a command: audits or a fix, rendered, written, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gradaudit import __version__
from gradaudit.errors import GradauditError, UsageError
from gradaudit.formats import FORMATS, places, rendered
from gradaudit.guards import guarded
from gradaudit.output import check_folder, write_folder, write_stdout, write_whole
from gradaudit.pacing import Progress
from gradaudit.settings import Settings

if TYPE_CHECKING:
    from gradaudit.records import Audited, Run

_READ = ("data", "loss", "build", "recipe_file")  # options that name files
CURE_FILES = ("model.safetensors", "recipe.json", "fix.py", "report.html", "report.json")


@dataclass(frozen=True)
class Target:
    """A model to be audited, and how."""

    name: str  # as configured, else as the user named the model
    model: str
    settings: Settings
    fail_on: str = "fail"


def run_audit(targets: Sequence[Target], options: Mapping[str, Any]) -> int:
    """Audit every target, write what was asked for, print the summary, and return the exit code.

    Nothing is written until every output is rendered. One target alone that cannot be audited
    raises its :class:`gradaudit.errors.GradauditError`; among several it is told, the others are
    audited all the same, and the exit code is 2.
    """
    where = places(options)
    with guarded(options["timeout"], quiet=options["quiet"]) as tell:
        from gradaudit.rules import all_rules

        audits = tuple(_audited(target, tell, alone=len(targets) == 1) for target in targets)
        run = _run(audits, tuple(rule.described for rule in all_rules()))
        tell.forget()
        tell("writing the report")
        files, result = rendered(run, where)
    write_whole(files)
    if result is not None:
        write_stdout(result)
    if not options["quiet"]:
        _summarize(run, where)
    return run.exit_code


def _audited(target: Target, tell: Progress, *, alone: bool) -> Audited:
    from gradaudit.auditing import audit_file
    from gradaudit.gate import exit_code, outcome
    from gradaudit.records import Audited

    try:
        report = audit_file(target.model, target.settings, tell)
    except GradauditError as error:
        if alone:
            raise
        return Audited(target.name, None, error.exit_code, str(error))
    return Audited(target.name, report, exit_code(outcome(report), target.fail_on))


def _run(audits: tuple[Audited, ...], rules: Any) -> Run:
    from gradaudit.records import Run

    return Run(__version__, audits, rules)


def _summarize(run: Run, where: Mapping[str, str]) -> None:
    from gradaudit.reports import terminal

    console = Console(stderr=True, highlight=False)
    terminal.render_run(run, console)
    for kind, place in where.items():
        if place != "-":
            console.print(f"{FORMATS[kind].title}: {place}", markup=False, soft_wrap=True)


def run_fix(model: str, settings: Settings, options: Mapping[str, Any]) -> int:
    """Search for a cure, write what is proven and the reports, and return the exit code.

    As in :func:`run_audit` nothing is written until every file is there.
    """
    folder = Path(options["folder"])
    check_folder(folder, CURE_FILES, force=options["force"])
    _spared(folder, (model, *(options[name] for name in _READ)))
    with guarded(options["timeout"], quiet=options["quiet"]) as tell:
        from gradaudit.fixing import fix_file
        from gradaudit.reports import html, json_report, terminal
        from gradaudit.written import cure_files, ending

        fixed = fix_file(model, settings, tell)
        tell.forget()
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
