"""What is kept of a report to hold a later one against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradaudit.records.comparison import Known
from gradaudit.records.estimate import Estimate
from gradaudit.records.findings import Verdict


@dataclass(frozen=True)
class Measured:
    """One number that is held to a tolerance."""

    metric: str  # "growth_per_stage"
    place: str  # "the model", or a layer
    estimate: Estimate


@dataclass(frozen=True)
class Snapshot:
    """One model's findings and numbers, and under what they were measured."""

    version: str  # of gradaudit
    verdict: Verdict
    subject: Mapping[str, Any]  # class name, parameters, stages
    settings: Mapping[str, Any]  # what changes the numbers: effort, seed, torch, recipe, sample
    findings: tuple[Known, ...]
    metrics: tuple[Measured, ...]

    def metric(self, name: str) -> Measured | None:
        """The number called ``name``, where it was measured."""
        return next((each for each in self.metrics if each.metric == name), None)
