"""What a comparison says, in words that all its renderers share."""

from __future__ import annotations

from collections import Counter

from gradaudit.records import (
    Compared,
    Comparison,
    Difference,
    FindingChange,
    MetricChange,
)
from gradaudit.reports.text import one_line, plural

Row = FindingChange | MetricChange


def headline(comparison: Comparison) -> str:
    """``nothing new or worse: 3 findings known, 1 fixed``, or what is new and worse."""
    findings = Counter(row.change for row in comparison.findings)
    metrics = Counter(row.change for row in comparison.metrics)
    told = [plural(findings["new"], "new finding")] if findings["new"] else []
    told += [f"{plural(findings['worse'], 'finding')} worse"] if findings["worse"] else []
    told += [f"{plural(metrics['worse'], 'number')} worse"] if metrics["worse"] else []
    head = ", ".join(told) if told else "nothing new or worse"
    known = findings["unchanged"] + findings["better"]
    rest = [f"{plural(known, 'known finding')}"] if known else []
    rest += [f"{findings['fixed']} fixed"] if findings["fixed"] else []
    return f"{head} ({', '.join(rest)})" if rest else head


def improvements(comparison: Comparison) -> tuple[Row, ...]:
    """What is fixed or better."""
    return comparison.rows("fixed", "better")


def unchanged(comparison: Comparison) -> tuple[Row, ...]:
    """All that stayed within its tolerance."""
    return comparison.rows("unchanged")


def subject(row: Row) -> str:
    """What the row is about: ``GA101 exploding-jacobian at layers.3``, ``growth per stage``."""
    if isinstance(row, MetricChange):
        return one_line(row.title or row.metric)
    return one_line(f"{row.known.code} {row.known.name} at {row.known.place}")


def severity(row: Row) -> str:
    """The finding's severity now, else as it was; empty for a number."""
    return "" if isinstance(row, MetricChange) else row.known.severity


def verdicts(compared: Compared) -> str:
    """``pass -> fail``, or the one verdict."""
    if compared.verdict is None:
        return "not audited"
    before = compared.comparison.verdict_before if compared.comparison else None
    if before is None or before == compared.verdict:
        return compared.verdict
    return f"{before} -> {compared.verdict}"


def ending(difference: Difference) -> str:
    """How the whole comparison ends, in a sentence."""
    counts = {
        0: "Nothing that counts is new or worse.",
        1: "There is something new or worse that counts.",
        2: "Not every model could be audited.",
        3: "Too little was measured to tell.",
    }
    return counts[difference.exit_code]
