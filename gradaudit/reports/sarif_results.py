"""The results of a SARIF log: one for each finding, each at a place in the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gradaudit.records import (
    Audited,
    Change,
    Finding,
    MetricChange,
    Report,
    Run,
    Severity,
    Where,
    plain,
)
from gradaudit.reports.claims import (
    Claim,
    answer,
    claims,
    gathered,
    numbers,
    place,
    regressed,
    told,
)
from gradaudit.reports.spots import Spot, spot
from gradaudit.reports.text import clean, one_line, plural, short_path, shorten

BASELINE = "GA-baseline"  # stands for a rule: a number beyond the baseline's tolerance
LISTED = 100  # places in a result that stands for many
_LETTERS, _NAME = 2_000, 500  # of a message, and of a layer's name
_LEVELS: Mapping[Severity, str] = {"fail": "error", "warn": "warning", "note": "note"}
_STATES: Mapping[Change, str] = {
    "new": "new",
    "worse": "updated",
    "better": "updated",
    "unchanged": "unchanged",
}


@dataclass(frozen=True)
class _Source:
    """Where a result comes from."""

    run: Run
    audited: Audited
    report: Report

    def prefixed(self, text: str) -> str:
        """The model's name first, where there are several."""
        return f"{one_line(self.audited.name)}: {text}" if len(self.run.audits) > 1 else text


def sizes(run: Run) -> tuple[int, ...]:
    """How many findings there are of each rule, severity and model."""
    return tuple(len(g.claims) for audited in run.audits for g in gathered(claims(audited)))


def results(run: Run, audited: Audited, kept: int) -> Iterator[dict[str, Any]]:
    """A model's results, worst first; of a rule at most ``kept``, the last for all the rest."""
    if audited.report is None:
        return
    source = _Source(run, audited, audited.report)
    for group in gathered(claims(audited)):
        alone = len(group.claims) if len(group.claims) <= kept else kept - 1
        for claim in group.claims[:alone]:
            yield _result(source, claim)
        if alone < len(group.claims):
            yield _many(source, group.claims[alone:])
    for change in regressed(audited.report):
        yield _regression(source, change)


def _result(source: _Source, claim: Claim) -> dict[str, Any]:
    finding = claim.finding
    text = f"{place(finding)}: {numbers(finding.measured, finding.limit)}. {finding.why}"
    remedy = answer(source.report, finding)
    if remedy is not None:
        text += f" Change: {remedy.title.rstrip('.')}."
    return {
        **_common(source, finding, text),
        **_state(claim),
        "locations": [_location(_spot(source, finding.where), (finding.where,))],
        "partialFingerprints": _fingerprints(source, finding.code, _identity(finding)),
        "properties": {
            "model": shorten(source.audited.name, _NAME),
            "measured": plain(finding.measured),
            "limit": plain(finding.limit),
        },
    }


def _many(source: _Source, rest: tuple[Claim, ...]) -> dict[str, Any]:
    """One result for many findings of a rule."""
    worst = rest[0].finding
    named = ", ".join(place(claim.finding) for claim in rest[:10])
    text = f"{plural(len(rest), 'place')}, the worst {named}: {worst.why}"
    wheres = tuple(claim.finding.where for claim in rest[:LISTED])
    return {
        **_common(source, worst, text),
        "occurrenceCount": len(rest),
        "locations": [_location(_spot(source, worst.where), wheres)],
        "partialFingerprints": _fingerprints(source, worst.code, f"many {worst.severity}"),
        "properties": {"model": shorten(source.audited.name, _NAME), "findings": len(rest)},
    }


def _regression(source: _Source, change: MetricChange) -> dict[str, Any]:
    return {
        "ruleId": BASELINE,
        "level": "error",
        "message": message(source.prefixed(told(change))),
        "baselineState": "updated",
        "locations": [_location(spot(source.run, source.report), (Where(module=change.place),))],
        "partialFingerprints": _fingerprints(source, change.metric, change.place),
        "properties": {"model": shorten(source.audited.name, _NAME), "metric": change.metric},
    }


def _common(source: _Source, finding: Finding, text: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "level": _LEVELS[finding.severity],
        "message": message(source.prefixed(text)),
    }


def _state(claim: Claim) -> dict[str, Any]:
    if claim.change is None:
        return {}
    state = {"baselineState": _STATES[claim.change.change]}
    if not claim.known:
        return state
    known = {"kind": "external", "status": "accepted", "justification": "known to the baseline"}
    return {**state, "suppressions": [known]}


def _spot(source: _Source, where: Where) -> Spot:
    return spot(source.run, source.report, where)


def _location(at: Spot, wheres: tuple[Where, ...]) -> dict[str, Any]:
    physical = {
        "artifactLocation": {"uri": _uri(at.file), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": at.line},
    }
    logical = [each for where in wheres for each in _logical(where)]
    named = {"logicalLocations": logical} if logical else {}
    return {"physicalLocation": physical, **named}


def _logical(where: Where) -> Iterator[dict[str, str]]:
    for kind, name in (("module", where.module), ("parameter", where.parameter)):
        if name:
            last = name.rpartition(".")[2] or name
            yield {
                "name": shorten(last, _NAME),
                "fullyQualifiedName": shorten(name, _NAME),
                "kind": kind,
            }


def _uri(file: str) -> str:
    """A relative reference; a first segment with a colon would be read as a scheme."""
    raw = clean(file).encode("utf-8")
    return quote(raw, safe="/")


def _identity(finding: Finding) -> str:
    where = finding.where
    return f"{where} {where.stage if not str(where) else ''} {where.call or ''}"


def _fingerprints(source: _Source, code: str, what: str) -> dict[str, str]:
    """By rule, model and layer: neither lines nor numbers nor seeds change it.

    Not under GitHub's own name, ``primaryLocationLineHash``: its uploader computes that from the
    line's text, and warns of every result that brings another.
    """
    model = short_path(source.audited.name)  # the same wherever the repository lies
    # separated by what no cleaned name has
    told = "\x1f".join(map(clean, (code, model, what.strip())))
    return {"gradaudit/v1": hashlib.sha256(told.encode("utf-8")).hexdigest()[:32]}


def message(text: str) -> dict[str, str]:
    """Text in which nothing is a placeholder or a link, which brackets would make it."""
    text = shorten(text, _LETTERS).replace("{", "{{").replace("}", "}}")
    return {"text": text.replace("](", "]\\(") or "-"}
