"""One model's audit held against an earlier one."""

from __future__ import annotations

from collections.abc import Mapping

from gradaudit.comparing.findings import changed_findings
from gradaudit.comparing.metrics import METRICS, MODEL, Metric
from gradaudit.comparing.scale import decades, factor, quotient
from gradaudit.comparing.stale import stale
from gradaudit.records import Change, Comparison, Limit, Measured, MetricChange, Snapshot
from gradaudit.reports.numbers import TERMINAL, amount


def compare(
    before: Snapshot | None,
    now: Snapshot,
    against: str,
    tolerances: Mapping[str, Limit],
    *,
    baseline: bool = True,
) -> Comparison:
    """What changed from ``before`` to ``now``; without ``before`` everything is new.

    ``against`` names the file that ``before`` comes from: a baseline, or else an older report.
    """
    old = before.findings if before is not None else ()
    metrics = () if before is None else _metrics(before, now, tolerances)
    return Comparison(
        against=against,
        findings=changed_findings(old, now.findings, tolerances),
        metrics=metrics,
        stale=stale(before, now, baseline=baseline),
        verdict_before=before.verdict if before is not None else None,
    )


def _metrics(
    before: Snapshot, now: Snapshot, tolerances: Mapping[str, Limit]
) -> tuple[MetricChange, ...]:
    changes = []
    for metric in METRICS:
        old, new = before.metric(metric.name), now.metric(metric.name)
        if old is not None or new is not None:
            changes.append(_metric(metric, old, new, tolerances))
    return tuple(changes)


def _metric(
    metric: Metric, old: Measured | None, new: Measured | None, tolerances: Mapping[str, Limit]
) -> MetricChange:
    allowed, words = _allowed(metric, old or new, tolerances)

    def change(turn: Change, why: str) -> MetricChange:
        return MetricChange(
            change=turn,
            metric=metric.name,
            place=next(each.place for each in (new, old) if each is not None),
            before=old.estimate if old else None,
            now=new.estimate if new else None,
            tolerance=f"its interval or {words}",
            why=why,
            title=metric.title,
        )

    if new is None:
        return change("unchanged", "It was measured before, and is not now.")
    if old is None:
        return change("unchanged", "It was not measured before.")
    if old.estimate.unit != new.estimate.unit:
        return change("unchanged", "Not comparable: it is measured in another way now.")
    turn = metric.scale.turn(old.estimate, new.estimate, allowed)
    moved = f"{_number(old)} -> {_number(new)}{_unit(metric, new)}{_places(old, new)}"
    if turn == "unchanged":
        return change(turn, f"{moved}: within its interval or {words}.")
    return change(turn, f"{moved}: {turn} by more than its interval and {words}.")


def _number(measured: Measured) -> str:
    return amount(measured.estimate, TERMINAL).value


def _unit(metric: Metric, measured: Measured) -> str:
    """A share or probability says of what; the others' names do."""
    log10 = metric.name.endswith("_log10")
    named = metric.scale.kind == "ratio" or log10
    return "" if named else f" {measured.estimate.unit}"


def _places(old: Measured, new: Measured) -> str:
    at = f", at {new.place}" if new.place != MODEL else ""
    return at + (f" (then at {old.place})" if new.place != old.place else "")


def _allowed(
    metric: Metric, before: Measured | None, tolerances: Mapping[str, Limit]
) -> tuple[float, str]:
    """The tolerance, and in words: ``10%``, ``a factor 10``, ``0.1``."""
    tolerance = tolerances[metric.name]
    if metric.scale.kind == "ratio":
        return tolerance.value, quotient(tolerance.value)
    if metric.name.endswith("_log10"):
        value = before.estimate.value if before else 0.0
        allowed = decades(tolerance, value, tolerances)
        return allowed, factor(allowed)
    return tolerance.value, f"{tolerance.value:.3g}"
