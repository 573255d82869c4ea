"""Saying so where an interval lies astride its limit: such a finding is a note, not a verdict."""

from __future__ import annotations

from dataclasses import replace

from gradaudit.records import Finding

_WORDS = "both sides of the limit"
_SO = "so this does not count for the verdict."
_SENTENCE = f" The interval reaches {_WORDS}, {_SO}"
_NONE = f" This one value has no interval, {_SO}"


def astride(finding: Finding) -> bool:
    """Whether the limit lies inside the interval; a side that is unknown could lie anywhere."""
    low, high, limit = finding.measured.low, finding.measured.high, finding.limit.value
    return (low is None or low <= limit) and (high is None or high > limit)


def told(finding: Finding) -> Finding:
    """The finding with a sentence about it, where it is a note for that reason."""
    if finding.severity != "note" or not astride(finding) or _WORDS in finding.why:
        return finding
    unknown = finding.measured.low is None and finding.measured.high is None
    return replace(finding, why=finding.why.rstrip() + (_NONE if unknown else _SENTENCE))
