"""The rules: one problem per file, each a plain reading of the measurements."""

from gradaudit.rules._terms import demand_on, means, notes_on
from gradaudit.rules.catalogue import (
    HEADINGS,
    Rule,
    all_rules,
    chosen_rules,
    matching,
    rule,
    run_rules,
)

__all__ = [
    "HEADINGS",
    "Rule",
    "all_rules",
    "chosen_rules",
    "demand_on",
    "matching",
    "means",
    "notes_on",
    "rule",
    "run_rules",
]
