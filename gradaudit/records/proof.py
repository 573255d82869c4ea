"""What a prescription was held against: the same measurements before and after the changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradaudit.records.estimate import Estimate
from gradaudit.records.findings import Forecast, Remedy, Verdict


@dataclass(frozen=True)
class Side:
    """One audit of the model, before or after the changes, on the same batches."""

    verdict: Verdict
    forecast: Forecast
    failing: tuple[str, ...]  # codes of the findings that fail
    total_growth_log10: Estimate | None
    stages: tuple[tuple[str, float], ...]  # name, log10 of the Jacobian's norm from there on
    gradient_norm: float | None  # median over batches, L2
    losses: tuple[float, ...]  # of the longest training seen, thinned
    steps: int  # that these losses span
    first_loss: float | None
    last_loss: float | None
    # 95% interval of each of ``stages``, in the same unit; empty where none is known:
    bounds: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Proof:
    """Before and after, side by side."""

    before: Side
    after: Side
    steps: int  # training steps after the changes
    batches: str  # "held back from the search" | "the same: the sample is one batch"


@dataclass(frozen=True)
class Attempt:
    """One set of remedies that was tried, and what came of it."""

    remedies: tuple[str, ...]  # ids
    titles: tuple[str, ...]
    outcome: str  # of the forecast, or "not applied"
    passed: bool
    why: str
    last_loss: float | None = None


@dataclass(frozen=True)
class Prescription:
    """The remedies together, the recipe they come to, and what shows that they work.

    ``proof`` is ``None`` where none was made: nothing that can be applied passed, or the effort
    does not search. ``tried`` holds every set in the order it was tried.
    """

    remedies: tuple[Remedy, ...]
    recipe: Mapping[str, object] | None = None
    proof: Proof | None = None
    tried: tuple[Attempt, ...] = ()
