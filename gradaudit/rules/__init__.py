"""The rules: one problem per file, each a plain reading of the measurements."""

from gradaudit.rules.catalogue import HEADINGS, Rule, all_rules, rule, run_rules

__all__ = ["HEADINGS", "Rule", "all_rules", "rule", "run_rules"]
