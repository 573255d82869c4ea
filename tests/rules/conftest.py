"""Whatever a test of this folder runs a rule on: its findings name a limit the rule declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from gradaudit.limits import LIMITS
from gradaudit.records import Finding, Measurements
from gradaudit.rules import Rule, catalogue
from gradaudit.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def _findings_name_declared_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        watched = tuple(_watched(each) for each in catalogue.all_rules())
        patch.setattr(catalogue, "all_rules", lambda: watched)
        yield


def _watched(each: Rule) -> Rule:
    own = {LIMITS[name].source for name in each.limits}
    foreign = {limit.source for limit in LIMITS.values()} - own

    def check(measurements: Measurements, settings: Settings) -> list[Finding]:
        found = list(each.check(measurements, settings))
        undeclared = [f.limit for f in found if f.limit.source in foreign]
        assert not undeclared, f"{each.code} decides by a limit it does not declare: {undeclared}"
        return found

    return dataclasses.replace(each, check=check)
