"""One run of a command: audits or a fix, rendered, written, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from gradaudit import __version__
from gradaudit.assets import check_assets, folder_for, linked
from gradaudit.errors import GradauditError
from gradaudit.formats import FORMATS, places, rendered
from gradaudit.guards import guarded, nobody_exits
from gradaudit.output import check_folder, check_spared, write_folder, write_stdout, write_whole
from gradaudit.pacing import Progress
from gradaudit.repository import Repository, repository
from gradaudit.settings import Settings

if TYPE_CHECKING:
    from gradaudit.comparing.baseline import Baseline
    from gradaudit.records import Audited, Run
    from gradaudit.targets import Target

_READ = ("data", "loss", "build", "recipe_file")  # options that name files
CURE_FILES = ("model.safetensors", "recipe.json", "fix.py", "report.html", "report.json")


def run_audit(targets: Sequence[Target], options: Mapping[str, Any], config: str = "") -> int:
    """Audit every target, write what was asked for, print the summary, and return the exit code.

    Nothing is written until every output is rendered. One target alone that cannot be audited
    raises its :class:`gradaudit.errors.GradauditError`; among several it is told, the others are
    audited all the same, and the exit code is 2.
    """
    home = repository(Path.cwd())  # before the user's code can change it
    try:
        check_assets(options["assets"], force=options["force"])
        run, where, files, result = _rendered(targets, options, home, config)
    except GradauditError as error:
        if options["annotations"]:
            _annotate(_run((), (), home, config), str(error))
        raise
    with folder_for(options["assets"]):
        write_whole(files, lambda: write_stdout(result) if result is not None else None)
    if not options["quiet"]:
        _summarize(run, where)
    if options["annotations"]:
        _annotate(run)
    return run.exit_code


def _read(targets: Sequence[Target]) -> Iterator[str | None]:
    """The files of the models, and those that their settings name."""
    for each in targets:
        yield from (each.model, *(getattr(each.settings, name) for name in _READ[:-1]))


def _baseline(options: Mapping[str, Any]) -> Baseline | None:
    """What findings and numbers are held against; it is read before any work is done."""
    if not options["baseline"]:
        return None
    from gradaudit.comparing.baseline import read_baseline

    return read_baseline(options["baseline"])


def _rendered(
    targets: Sequence[Target], options: Mapping[str, Any], home: Repository, config: str
) -> tuple[Run, dict[str, str], dict[Path, str], str | None]:
    """The run, where its formats go, the text of every file, and what goes to standard output."""
    names = [target.name for target in targets]
    where = places(options, names)
    for kind, place in where.items():
        # a baseline may be renewed by the run that is held against it
        against = options["baseline"] if kind != "baseline" else None
        if place != "-":
            check_spared(Path(place), (*_read(targets), config, against))
    baseline = _baseline(options)
    accepted = where.get("baseline", "") if baseline is None else ""
    with guarded(options["timeout"], quiet=options["quiet"]) as tell:
        from gradaudit.rules import all_rules

        audits = tuple(_audited(each, tell, names, baseline, accepted) for each in targets)
        where = _without_parts(where, audits)
        run = _run(audits, tuple(rule.described for rule in all_rules()), home, config)
        tell.heading = ""
        tell.forget()
        tell("writing the report")
        return run, where, *linked(*rendered(run, where), options["assets"])


def _audited(
    target: Target, tell: Progress, names: Sequence[str], baseline: Baseline | None, accepted: str
) -> Audited:
    """The model held against ``baseline``, or against what is found now, to be ``accepted``."""
    from gradaudit.auditing import audit_file
    from gradaudit.records import Audited, exit_code
    from gradaudit.subject.apart import apart

    tell.heading = target.name if len(names) > 1 else ""
    try:
        with apart(), nobody_exits():  # one model's end is not the end of the others
            report = audit_file(target.model, target.settings, tell)
    except GradauditError as error:
        if len(names) == 1:
            raise
        return Audited(target.name, None, error.exit_code, str(error), target.fail_on)
    if accepted:
        from gradaudit.comparing.baseline import baseline_of

        baseline = baseline_of(report, target.name, accepted)
    if baseline is not None:
        tolerances = target.settings.all_tolerances
        report = baseline.held_against(report, target.name, names, tolerances)
    code = exit_code(report.outcome, target.fail_on)
    return Audited(target.name, report, code, fail_on=target.fail_on)


def _without_parts(where: dict[str, str], audits: Sequence[Audited]) -> dict[str, str]:
    """No baseline of some models only: what it lacks would be new, or go unnoticed."""
    if all(each.report is not None for each in audits) or "baseline" not in where:
        return where
    click.echo("gradaudit: no baseline is written: not every model could be audited", err=True)
    return {kind: place for kind, place in where.items() if kind != "baseline"}


def _run(audits: tuple[Audited, ...], rules: Any, home: Repository, config: str) -> Run:
    from gradaudit.records import Run

    return Run(__version__, audits, rules, config, home.folder, home.anchor)


def _annotate(run: Run, error: str = "") -> None:
    """Annotations on standard error, a line each: a runner reads them from both streams."""
    from gradaudit.reports import annotations

    click.echo(
        annotations.failed(run, error) if error else annotations.render(run), err=True, nl=False
    )


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
    for name in CURE_FILES:
        check_spared(folder / name, (model, *(options[name] for name in _READ)))
    with guarded(options["timeout"], quiet=options["quiet"]) as tell:
        from gradaudit.fixing import fix_file
        from gradaudit.reports import html, json_report, terminal
        from gradaudit.rules import all_rules
        from gradaudit.written import cure_files, ending

        rules = tuple(rule.described for rule in all_rules())
        fixed = fix_file(model, settings, tell)
        tell.forget()
        tell("writing the cure")
        files = {
            **cure_files(fixed),
            "report.html": html.render(fixed.report, rules),
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
