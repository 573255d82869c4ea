"""Reports and baselines as files: read back, and a baseline written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, cast

from gradaudit.comparing.fields import Field
from gradaudit.comparing.metrics import METRICS
from gradaudit.comparing.snapshots import VERDICTS, from_report, known
from gradaudit.errors import UnreadableFile
from gradaudit.json_object import read_object
from gradaudit.records import Estimate, Known, Limit, Measured, Snapshot, Verdict
from gradaudit.telling import missing, printable, quoted

SCHEMA = "gradaudit.baseline/1"
_MOST = 100_000_000  # bytes; the report of 2,000 layers is a tenth of it
_DIGITS = 6  # of a number in a baseline: far below any tolerance, and steady in a diff

Kept = Snapshot | str  # a model, or why it could not be audited


def read_models(file: str) -> dict[str, Kept]:
    """The models of a baseline or of the JSON of one or several audits, by name.

    Raises :class:`gradaudit.errors.GradauditError` of one line for anything else.
    """
    path = Path(file)
    if not path.exists():
        raise missing(path)
    if not path.is_file():
        raise UnreadableFile(f"{file} is no file", expected="the JSON of an audit, or a baseline")
    whole = Field(read_object(path, most=_MOST), printable(file, 200))
    schema = whole.at("schema").value
    if schema == "gradaudit.report/1":
        return {_own_name(whole): from_report(whole)}
    if schema == "gradaudit.run/1":
        return _of_run(whole)
    if schema == SCHEMA:
        version = whole.at("tool", "version").text()
        models = whole.at("models").entries()
        return {name: _from_baseline(model, version) for name, model in models}
    raise UnreadableFile(
        f"{file} is no report of gradaudit's",
        expected=f"schema gradaudit.report/1, gradaudit.run/1 or {SCHEMA}",
        found=quoted(schema) if schema is not None else "no schema",
        next_step="make one with --json FILE or --write-baseline FILE",
    )


def model_key(name: str) -> str:
    """The name of a model in a baseline: as it was named, without folders of this machine."""
    path = PurePath(name)
    if not path.is_absolute():
        return name
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def baseline_text(models: Mapping[str, Snapshot], version: str) -> str:
    """The baseline of these models as JSON: sorted, without times and places on this machine."""
    whole = {
        "schema": SCHEMA,
        "tool": {"name": "gradaudit", "version": version},
        "models": {name: _to_baseline(model) for name, model in models.items()},
    }
    return json.dumps(whole, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _own_name(report: Field) -> str:
    return model_key(report.at("subject", "source").text())


def _of_run(run: Field) -> dict[str, Kept]:
    models: dict[str, Kept] = {}
    for entry in run.at("models").items():
        name, report = entry.at("name").text(), entry.at("report")
        key = model_key(name)
        if key in models:
            raise entry.at("name").wrong("another name for every model")
        error = entry.at("error").text()
        models[key] = from_report(report) if report.given else error or "it was not audited"
    return models


def _from_baseline(model: Field, version: str) -> Snapshot:
    titles = {metric.name for metric in METRICS}
    return Snapshot(
        version=version,
        verdict=cast("Verdict", model.at("verdict").one_of(VERDICTS)),
        subject=dict(_plain_entries(model.at("subject"))),
        settings=dict(_plain_entries(model.at("settings"))),
        findings=tuple(
            known(finding, finding.at("place").text()) for finding in model.at("findings").items()
        ),
        metrics=tuple(
            _measured(name, metric)
            for name, metric in model.at("metrics").entries()
            if name in titles  # one that a later version measures is not compared
        ),
    )


def _plain_entries(table: Field) -> list[tuple[str, Any]]:
    return [(name, field.value) for name, field in table.entries()]


def _measured(name: str, metric: Field) -> Measured:
    estimate = metric.estimate()
    if estimate is None:
        raise metric.wrong("a number with its interval")
    return Measured(name, metric.at("place").text(), estimate)


def _to_baseline(model: Snapshot) -> dict[str, Any]:
    found = sorted(model.findings, key=lambda each: (each.code, each.place))
    return {
        "verdict": model.verdict,
        "subject": {k: v for k, v in model.subject.items() if v not in (None, "")},
        "settings": dict(model.settings),
        "findings": [_finding(each) for each in found],
        "metrics": {
            each.metric: {"place": each.place, **_estimate(each.estimate)} for each in model.metrics
        },
    }


def _finding(finding: Known) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "place": finding.place,
        "severity": finding.severity,
        "measured": _estimate(finding.measured) if finding.measured else None,
        "limit": _limit(finding.limit) if finding.limit else None,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": _rounded(estimate.value),
        "low": None if estimate.low is None else _rounded(estimate.low),
        "high": None if estimate.high is None else _rounded(estimate.high),
        "unit": estimate.unit,
    }


def _limit(limit: Limit) -> dict[str, Any]:
    """Without its source, which the rule's page tells."""
    return {"value": _rounded(limit.value), "unit": limit.unit}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
