"""Whatever a test of this folder runs a rule on: its findings name a limit the rule declares."""

from __future__ import annotations

import dataclasses

import pytest

from gradaudit.limits import LIMITS
from gradaudit.records import Finding, Measurements
from gradaudit.rules import Rule, catalogue
from gradaudit.settings import Settings

# Made once; put in place for each test alone, since tests of other folders run in between.
WATCHED: list[Rule] = []


@pytest.fixture(autouse=True)
def _findings_name_declared_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    if not WATCHED:
        WATCHED.extend(_watched(each) for each in catalogue.all_rules())
    monkeypatch.setattr(catalogue, "all_rules", lambda: tuple(WATCHED))


def _watched(each: Rule) -> Rule:
    own = {LIMITS[name].source for name in each.limits}
    foreign = {limit.source for limit in LIMITS.values()} - own

    def check(measurements: Measurements, settings: Settings) -> list[Finding]:
        found = list(each.check(measurements, settings))
        undeclared = [f.limit for f in found if f.limit.source in foreign]
        assert not undeclared, f"{each.code} decides by a limit it does not declare: {undeclared}"
        return found

    return dataclasses.replace(each, check=check)
