"""What the rules conclude, and what the remedies prescribe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gradaudit.records.estimate import Estimate, Limit

Severity = Literal["fail", "warn", "note"]
SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "note")  # the worst first
Verdict = Literal["pass", "warn", "fail", "inconclusive"]
Outcome = Literal["trains", "stalls", "diverges", "unknown"]
Safety = Literal["recipe only", "changes start values", "changes architecture: shown, not applied"]


@dataclass(frozen=True)
class Where:
    """The place a finding is about; empty fields do not apply."""

    module: str = ""
    parameter: str = ""
    stage: int | None = None
    call: int | None = None
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return self.parameter or self.module or ("the model" if self.stage is None else "")


@dataclass(frozen=True)
class Finding:
    """A rule's claim about one place, with the number, the limit, and the reason it hurts."""

    code: str
    name: str
    severity: Severity
    where: Where
    measured: Estimate
    limit: Limit
    why: str  # plain sentences for a person, naming place, number and consequence
    remedies: tuple[str, ...] = ()  # ids of the prescription's remedies


@dataclass(frozen=True)
class Remedy:
    """A change with its numbers, and the code that makes it."""

    id: str
    kind: str
    title: str  # one line: what to do
    parameters: Mapping[str, object]
    code: str  # Python a person pastes
    safety: Safety
    for_codes: tuple[str, ...] = ()  # the rules whose findings it answers
    sets: tuple[str, ...] = ()  # the parameters whose start values it changes


@dataclass(frozen=True)
class Forecast:
    """What training is expected to do."""

    outcome: Outcome
    confidence: float
    because: tuple[str, ...] = field(default=())
