"""The formats of a report: where each is to go, and what renders it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    return html.render(run.reports[0], run.rules)


def _json(run: Run) -> str:
    from gradaudit.reports import json_report

    return json_report.render(run.reports[0])


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
    from gradaudit.comparing.baseline import baseline_of

    return baseline_of(run)


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


def places(options: Mapping[str, Any]) -> dict[str, str]:
    """Where each format that is asked for goes, by its kind; ``-`` is standard output.

    HTML is always asked for, unless ``no_html``. Raises ``UsageError`` where a file could not be
    written, or two formats would be written to one.
    """
    found = {kind: options[each.option] for kind, each in FORMATS.items() if options[each.option]}
    if options["no_html"]:
        found.pop("html", None)
    else:
        found = {"html": DEFAULT_REPORT, **found}
    taken: dict[Path, str] = {}
    for kind, place in found.items():
        if place == "-":
            continue
        check_writable(Path(place), force=options["force"])
        other = taken.setdefault(Path(place).resolve(), kind)
        if other != kind:
            raise UsageError(
                f"two reports would be written to {Path(place)}", expected="a file for each"
            )
    return found


def rendered(run: Run, where: Mapping[str, str]) -> tuple[dict[Path, str], str | None]:
    """The text of every file, and what goes to standard output."""
    texts = {kind: FORMATS[kind].render(run) for kind in where}
    files = {Path(place): texts[kind] for kind, place in where.items() if place != "-"}
    return files, next((texts[kind] for kind, place in where.items() if place == "-"), None)
