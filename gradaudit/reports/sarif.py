"""SARIF 2.1.0 of a run, as code scanning takes it.

Readers refuse a whole file for one result without a place in the repository, for more than 25,000
results, and for more than 10 MB: every result has such a place, and where there are too many
findings those of a rule beyond its worst are one result that counts them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradaudit.records import Audited, RuleDoc, Run
from gradaudit.reports.sarif_results import BASELINE, LISTED, message, results, sizes
from gradaudit.reports.text import clean, one_line, shorten

VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS, MOST_BYTES = 25_000, 10_000_000
_KEPT = (1_000, 100, 10, 1)  # results of a rule, where not all of them can be
_TAGS = {
    "GA0": "numerics",
    "GA1": "gradient flow",
    "GA2": "gradient through time",
    "GA3": "weights",
    "GA4": "activations",
    "GA5": "data and loss",
    "GA6": "recipe",
    "GA7": "precision",
}


def render(run: Run) -> str:
    """The run as one SARIF log with one run, ending in a newline; the same run, the same text."""
    counts = sizes(run)
    for kept in (max(counts, default=1), *_KEPT):
        if sum(min(size, kept) for size in counts) <= MOST_RESULTS or kept == _KEPT[-1]:
            text = _text(run, kept)
            if len(text) <= MOST_BYTES:
                break
    return text


def _text(run: Run, kept: int) -> str:
    """The log with so many results of each rule of a model."""
    found = [each for audited in run.audits for each in results(run, audited, kept)]
    return json.dumps(_cleaned(_log(run, found[:MOST_RESULTS])), indent=1) + "\n"


def _log(run: Run, found: list[dict[str, Any]]) -> dict[str, Any]:
    rules = _rules(run, {each["ruleId"] for each in found})
    index = {rule["id"]: i for i, rule in enumerate(rules)}
    for result in found:
        result["ruleIndex"] = index[result["ruleId"]]
    driver = {
        "name": "gradaudit",
        "version": run.version,
        "semanticVersion": run.version,
        "rules": rules,
    }
    log_run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(run)],
        "columnKind": "unicodeCodePoints",
        "results": found,
        "properties": {"models": [_model(each) for each in run.audits]},
    }
    return {"$schema": SCHEMA, "version": VERSION, "runs": [log_run]}


def _invocation(run: Run) -> dict[str, Any]:
    failed = [each for each in run.audits if each.report is None]
    told = [{"level": "error", "message": message(f"{each.name}: {each.error}")} for each in failed]
    told += [
        {"level": "warning", "message": message(f"{each.name}: {each.report.cause}")}
        for each in run.audits
        if each.report is not None and each.verdict == "inconclusive"
    ]
    return {
        "executionSuccessful": not failed,
        "exitCode": run.exit_code,
        "toolExecutionNotifications": told,
    }


def _model(audited: Audited) -> dict[str, Any]:
    """A model's verdict, and what the baseline had that is gone: no result, for it is none now."""
    report = audited.report
    comparison = report.comparison if report is not None else None
    fixed = comparison.of("fixed") if comparison is not None else ()
    return {
        "name": shorten(audited.name, 500),
        "verdict": audited.verdict,
        "exitCode": audited.exit_code,
        "cause": shorten(report.cause if report is not None else audited.error, 2_000),
        "fixed": [
            {"ruleId": e.known.code, "place": shorten(e.known.place, 500)} for e in fixed[:LISTED]
        ],
        "fixedCount": len(fixed),
    }


def _rules(run: Run, used: set[str]) -> list[dict[str, Any]]:
    """The whole catalogue, and what else the results name."""
    found = [_rule(doc) for doc in run.rules]
    missing = used - {doc.code for doc in run.rules}
    return found + [{"id": code, **_OTHER.get(code, {})} for code in sorted(missing)]


_OTHER: Mapping[str, dict[str, Any]] = {
    BASELINE: {
        "name": "WorseThanBaseline",
        "shortDescription": {"text": "A measured number is worse than the baseline allows."},
        "defaultConfiguration": {"level": "error"},
    }
}


def _rule(doc: RuleDoc) -> dict[str, Any]:
    markdown = "\n\n".join(f"## {title}\n\n{body}" for title, body in doc.sections.items())
    text = "\n\n".join(f"{title}\n{body}" for title, body in doc.sections.items())
    tag = _TAGS.get(doc.code[:3])
    return {
        "id": doc.code,
        "name": "".join(part.capitalize() for part in doc.name.split("-")),
        "shortDescription": {"text": doc.summary},
        "fullDescription": {"text": one_line(doc.sections.get("Why it hurts") or doc.summary)},
        "help": {"text": text or doc.summary, "markdown": markdown or doc.summary},
        # how bad a finding is depends on its numbers: each result has a level of its own
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["machine-learning", *([tag] if tag else [])]},
    }


def _cleaned(value: Any) -> Any:
    """Every text with what cannot be seen written out; lone surrogates have no form in UTF-8."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
