"""What the catalogue says of the rules that found something: what they measure and why it hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradaudit.records import Report, RuleDoc

# Of the headings of a rule's page; the example is code of ours, and the user's own stands above.
_SHOWN = ("Why it hurts", "What it measures", "Remedy", "Safety", "References")


@dataclass(frozen=True)
class RuleHelp:
    """One rule in words: headings with their paragraphs."""

    summary: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]


def of(report: Report, rules: Sequence[RuleDoc]) -> Mapping[str, RuleHelp]:
    """Help by code, for the rules of the report's findings."""
    found = {finding.code for finding in report.findings}
    return {rule.code: _help(rule) for rule in rules if rule.code in found}


def _help(rule: RuleDoc) -> RuleHelp:
    parts = (
        (heading, tuple(" ".join(part.split()) for part in rule.sections[heading].split("\n\n")))
        for heading in _SHOWN
        if rule.sections.get(heading)
    )
    return RuleHelp(rule.summary.rstrip("."), tuple(parts))
