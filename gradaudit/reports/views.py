"""Findings in words: worst first, gathered by rule, with their distance to the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradaudit.records import SEVERITIES, Finding, Remedy, Report
from gradaudit.reports import anchors
from gradaudit.reports.numbers import LOG10, Amount, amount, power
from gradaudit.reports.text import short_path

SHOWN_PER_RULE = 3  # findings of one rule in full; the rest become table rows
LISTED = 2500  # of all rules together; the rest is counted
_SAME = 0.02  # decades: within 5% of its limit, a ratio says nothing


@dataclass(frozen=True)
class FindingView:
    """A finding with its numbers in words and the remedies that answer it, by their place."""

    id: str  # its address within the page
    finding: Finding
    place: str
    layer: str | None  # address of the layer it is about
    measured: Amount
    limit: Amount
    ratio: str
    remedies: tuple[tuple[int, Remedy], ...]


@dataclass(frozen=True)
class Group:
    """All findings of one rule at one severity: some in full, some in a list, the rest counted."""

    code: str
    severity: str
    shown: tuple[FindingView, ...]
    listed: tuple[FindingView, ...]
    left_out: int

    @property
    def size(self) -> int:
        """How many findings there are."""
        return len(self.shown) + len(self.listed) + self.left_out


def groups(report: Report, homes: Mapping[str, str] | None = None) -> tuple[Group, ...]:
    """Findings worst first, else in the report's own order, gathered by rule.

    ``homes`` maps addresses of findings to that of the layer that each is about.
    """
    remedies = report.prescription.remedies if report.prescription else ()
    addressed = zip(anchors.addresses(report.findings), report.findings, strict=True)
    gathered: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
    for address, finding in sorted(addressed, key=lambda pair: SEVERITIES.index(pair[1].severity)):
        gathered.setdefault((finding.severity, finding.code), []).append((address, finding))
    room = LISTED
    result = []
    for (severity, code), findings in gathered.items():
        listed = findings[: max(SHOWN_PER_RULE, room)]
        views = tuple(
            finding_view(finding, remedies, address, (homes or {}).get(address))
            for address, finding in listed
        )
        room -= len(views)
        first, more = views[:SHOWN_PER_RULE], views[SHOWN_PER_RULE:]
        result.append(Group(code, severity, first, more, len(findings) - len(views)))
    return tuple(result)


def finding_view(
    finding: Finding, remedies: Sequence[Remedy], address: str = "", layer: str | None = None
) -> FindingView:
    """The finding's numbers as text."""
    answers = [(i, r) for i, r in enumerate(remedies, 1) if r.id in finding.remedies]
    return FindingView(
        address,
        finding,
        place(finding),
        layer,
        amount(finding.measured),
        amount(finding.limit),
        _ratio(finding),
        tuple(answers),
    )


def place(finding: Finding) -> str:
    """Where a finding is, in words."""
    where = finding.where
    words = str(where) or f"stage {where.stage}"
    if where.call:
        words += f", call {where.call}"
    if where.file:
        words += f" ({short_path(where.file)}" + (
            ")" if where.line is None else f", line {where.line})"
        )
    return words


def _ratio(finding: Finding) -> str:
    """How far past its limit a failing or warning finding is, where the two compare."""
    measured, limit = finding.measured, finding.limit
    logs = measured.unit.startswith(LOG10) and limit.unit.startswith(LOG10)
    if finding.severity == "note" or not (logs or measured.unit == limit.unit):
        return ""
    if logs:
        decades = measured.value - limit.value
    elif min(measured.value, limit.value) > 0:
        decades = math.log10(measured.value) - math.log10(limit.value)
    else:
        return ""
    if abs(decades) < _SAME:
        return ""
    return f"{power(decades)}× the limit" if decades > 0 else f"{power(-decades)}× below the limit"
