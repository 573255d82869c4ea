"""The formats of a report: where each is to go, and what renders it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gradaudit.assets import NAMES
from gradaudit.errors import UsageError
from gradaudit.output import check_writable

if TYPE_CHECKING:
    from gradaudit.records import Run

DEFAULT_REPORT = "gradaudit-report.html"


@dataclass(frozen=True)
class Format:
    """One format: the option that asks for it, and what renders a run of one or more models."""

    kind: str
    option: str  # the option's name among the command's
    title: str
    render: Callable[[Run], str]


def _html(run: Run) -> str:
    from gradaudit.reports import html

    (report,), (audited,) = run.reports, run.audits
    return html.render(report, run.rules, audited.fail_on)


def _json(run: Run) -> str:
    from gradaudit.reports import json_report

    if len(run.audits) > 1:
        return json_report.render_run(run)
    (report,) = run.reports
    return json_report.render(report)


def _sarif(run: Run) -> str:
    from gradaudit.reports import sarif

    return sarif.render(run)


def _junit(run: Run) -> str:
    from gradaudit.reports import junit

    return junit.render(run)


def _markdown(run: Run) -> str:
    from gradaudit.reports import markdown

    return markdown.render(run)


def _baseline(run: Run) -> str:
    from gradaudit.comparing import baseline

    return baseline.render(run)


FORMATS: Mapping[str, Format] = {
    each.kind: each
    for each in (
        Format("html", "output", "HTML report", _html),
        Format("json", "json_file", "JSON report", _json),
        Format("sarif", "sarif", "SARIF report", _sarif),
        Format("junit", "junit", "JUnit report", _junit),
        Format("markdown", "markdown", "Markdown report", _markdown),
        Format("baseline", "write_baseline", "Baseline", _baseline),
    )
}


def places(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Where each format that is asked for goes, by its kind; ``-`` is standard output.

    HTML is always asked for, unless ``no_html``; of several models, which ``names`` are, a page for
    each goes beside it. Raises ``UsageError`` where a file could not be written, or two formats
    would be written to one.
    """
    found = {kind: options[each.option] for kind, each in FORMATS.items() if options[each.option]}
    if options["no_html"]:
        found.pop("html", None)
    else:
        found = {"html": DEFAULT_REPORT, **found}
    files = [Path(place) for place in found.values() if place != "-"]
    if len(names) > 1 and "html" in found:
        files += pages(found["html"], names).values()
    folder = options.get("assets")
    taken = {(Path(folder) / name).resolve() for name in NAMES} if folder else set[Path]()
    for file in files:
        check_writable(file, force=options["force"])
        if file.resolve() in taken:
            raise UsageError(f"two reports would be written to {file}", expected="a file for each")
        taken.add(file.resolve())
    return found


def pages(index: str, names: Sequence[str]) -> dict[str, Path]:
    """The file of each model's own page, beside that of the index: ``report-NAME.html``.

    Names that differ only in letters that file names may not have get a number. Raises
    ``UsageError`` where the index goes to standard output, from which nothing can be beside it.
    """
    if index == "-":
        raise UsageError(
            f"{len(names)} models are a page each, which standard output has no place for",
            next_step="name a file with -o, or audit one model",
        )
    home, found, taken = Path(index), dict[str, Path](), set[str]()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:80] or "model"
        free = (plain, *(f"{plain}-{number}" for number in range(2, len(names) + 2)))
        chosen = next(each for each in free if each.lower() not in taken)
        taken.add(chosen.lower())
        found[name] = home.with_name(f"{home.stem}-{chosen}{home.suffix}")
    return found


def rendered(run: Run, where: Mapping[str, str]) -> tuple[dict[Path, str], str | None]:
    """The text of every file, and what goes to standard output."""
    if len(run.audits) > 1 and "html" in where:
        files, result = rendered(run, {k: place for k, place in where.items() if k != "html"})
        return {**_site(run, where["html"]), **files}, result
    texts = {kind: FORMATS[kind].render(run) for kind in where}
    files = {Path(place): texts[kind] for kind, place in where.items() if place != "-"}
    return files, next((texts[kind] for kind, place in where.items() if place == "-"), None)


def _site(run: Run, index: str) -> dict[Path, str]:
    """The index of several models, and a page for each that could be audited."""
    from gradaudit.reports import html

    places = pages(index, [each.name for each in run.audits])
    known = {each.name: (each.report, each.fail_on) for each in run.audits if each.report}
    links = {name: quote(os.fsencode(places[name].name)) for name in known}
    texts = {
        places[name]: html.render(report, run.rules, fail_on)
        for name, (report, fail_on) in known.items()
    }
    return {Path(index): html.render_run(run, links), **texts}
