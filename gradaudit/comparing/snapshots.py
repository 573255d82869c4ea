"""What is kept of a report, read from its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from gradaudit.comparing.fields import Field
from gradaudit.comparing.metrics import MODEL, measured
from gradaudit.limits import LIMITS
from gradaudit.records import SEVERITIES, Known, Report, Severity, Snapshot, Verdict

VERDICTS = ("pass", "warn", "fail", "inconclusive")
# Settings that change what is measured or found; where files lie does not.
_KEPT = (
    "effort",
    "seed",
    "device",
    "batch_size",
    "input",
    "state",
    "reinit",
    "select",
    "ignore",
    "severities",
    "layers",
)
_FOLDERS = re.compile(r"^.*[/\\]")


def snapshot(report: Report) -> Snapshot:
    """What is kept of a report in memory."""
    return from_report(Field(report.to_dict(), "this run"))


def from_report(report: Field) -> Snapshot:
    """What is kept of a ``gradaudit.report/1``.

    Raises :class:`gradaudit.errors.UnreadableFile` naming the first field that is none.
    """
    return Snapshot(
        version=report.at("tool", "version").text(),
        verdict=cast("Verdict", report.at("verdict").one_of(VERDICTS)),
        subject=_subject(report.at("subject")),
        settings=_settings(report),
        findings=tuple(_known(finding) for finding in report.at("findings").items()),
        metrics=measured(report),
    )


def known(finding: Field, place: str) -> Known:
    """A finding at ``place``."""
    return Known(
        code=finding.at("code").text(),
        name=finding.at("name").text(),
        place=place,
        severity=cast("Severity", finding.at("severity").one_of(SEVERITIES)),
        measured=finding.at("measured").estimate(),
        limit=finding.at("limit").limit(),
    )


def _known(finding: Field) -> Known:
    """Keyed by rule and layer: neither line nor value tells two findings apart."""
    where = finding.at("where")
    place = where.at("parameter").text() or where.at("module").text() or MODEL
    call = where.at("call").whole()
    return known(finding, f"{place} (call {call})" if call else place)


def _subject(row: Field) -> dict[str, Any]:
    return {
        "name": row.at("name").text(),
        "parameters": row.at("parameters").whole(),
        "stages": row.at("stages").whole(),
    }


def _settings(report: Field) -> dict[str, Any]:
    settings = report.at("settings")
    kept: dict[str, Any] = {name: settings.at(name).value for name in _KEPT}
    kept["loss"] = _FOLDERS.sub("", settings.at("loss").text())
    kept["limits"] = _changed_limits(settings.at("limits"))
    kept["recipe"] = {k: field.value for k, field in report.at("recipe").entries()}
    kept["sample"] = _sample(report.at("measurements", "sample"))
    kept["torch"] = report.at("environment", "torch").text()
    return _without_empty(kept)


def _changed_limits(limits: Field) -> dict[str, float]:
    values = {name: limit.at("value").number() for name, limit in limits.entries()}
    return {
        name: value
        for name, value in values.items()
        if name not in LIMITS or LIMITS[name].value != value
    }


def _sample(row: Field) -> str:
    source, batches = row.at("source").text(), row.at("batches").whole()
    if not batches:
        return source
    size = row.at("batch_size").whole()
    of = f" of {size}" if size is not None else ""
    return f"{source}: {batches} {'batch' if batches == 1 else 'batches'}{of}"


def _without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what nobody set, so that a file shows what matters."""
    kept = {}
    for name, value in settings.items():
        inner = _without_empty(value) if isinstance(value, dict) else value
        if inner not in (None, "", [], {}, False):
            kept[name] = inner
    if settings.get("seed") == 0:
        kept["seed"] = 0
    return kept
