"""Literal outlooks: how training went on, the best constant prediction costing 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradaudit.records import Measurements, Outlook, Trial
from tests.rules.literal import FALLS, measurements


def trial(*levels: float, steps: int = 1000, **changes: Any) -> Trial:
    """A curve through these levels: the constant prediction costs 1."""
    made = Trial("sgd", 0.01, steps, levels, levels[0], levels[-1], min(levels), None)
    return replace(made, **changes)


def flat(level: float, **changes: Any) -> Trial:
    return trial(*[level] * 8, **changes)


BROKE = Trial("sgd", 0.01, 7, (1.0, 3.0), 1.0, 3.0, 1.0, 7)


def followed(own: Trial, reference: Trial | None = None, **changes: Any) -> Measurements:
    """Training of 1000 steps that went so; ``changes`` to the outlook or to the rest."""
    kept = {k: changes.pop(k) for k in list(changes) if k in Outlook.__dataclass_fields__}
    if reference is not None:
        reference = replace(reference, optimizer="adamw", lr=1e-3)
    outlook = Outlook(1000, own.steps, own, reference, 1.0, None, 0.0)
    return measurements(**{"outlook": replace(outlook, **kept), "rehearsal": FALLS, **changes})
