"""Which rules name a planted fault, and whether a report's first finding is one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.corpus.case import Case

# A rule names a fault where it points at the setting or weight that was made faulty, or at the
# number that this fault puts out of its limits. GA603 and GA609 say only that training fails.
NAMES: Mapping[str, tuple[str, ...]] = {
    "rate-high": ("GA601", "GA604"),
    "rate-low": ("GA602", "GA605"),
    "init-large": ("GA101", "GA201", "GA301", "GA302", "GA402", "GA503"),
    "init-small": ("GA102", "GA302", "GA404"),
    "init-symmetric": ("GA302", "GA401"),
    "embedding-scale": ("GA301", "GA402", "GA403", "GA503"),
    "input-scale": ("GA501",),
    "target-scale": ("GA502",),
    "clip-tight": ("GA612",),
    "clip-missing": ("GA611", "GA601", "GA604", "GA201"),
    "depth-vanishing": ("GA102", "GA302", "GA404"),
    "depth-exploding": ("GA101", "GA302", "GA503"),
    "time-vanishing": ("GA202", "GA203"),
    "time-exploding": ("GA201", "GA611"),
    "dead-units": ("GA401",),
    "saturation": ("GA402", "GA403", "GA301", "GA302", "GA501"),
    "attention-scale": ("GA403", "GA301"),
    "warmup-missing": ("GA601", "GA604"),
    "precision": ("GA701", "GA702", "GA703"),
    "eps": ("GA704",),
    "weight-decay": ("GA607",),
    "frozen": ("GA105",),
}


def first_code(findings: Sequence[Mapping[str, Any]]) -> str:
    """Code of the finding that a report leads with."""
    order = ("fail", "warn")
    led = [each["code"] for severity in order for each in findings if each["severity"] == severity]
    return led[0] if led else ""


def named(case: Case, findings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the first finding of a row, worst first, names the fault or another name of it."""
    faults = (case.fault, *case.also)
    return first_code(findings) in {code for fault in faults for code in NAMES.get(fault, ())}
