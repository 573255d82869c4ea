"""A number with its error bar, and the admission that there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95% interval in ``unit``; ``low == high`` where it is exact.

    A bound is ``None`` where that side is unknown. Raises ``ValueError`` on NaN or infinity:
    what cannot be given as a number belongs in :class:`NotMeasured`.
    """

    value: float
    low: float | None
    high: float | None
    unit: str

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"an Estimate holds finite numbers; {name} is {number}")

    @classmethod
    def exact(cls, value: float, unit: str) -> Estimate:
        """A value known to rounding."""
        return cls(float(value), float(value), float(value), unit)


@dataclass(frozen=True)
class Limit:
    """A threshold a measurement is held against, and where the threshold comes from."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class NotMeasured:
    """Something the audit would have said but could not, and why."""

    what: str
    where: str
    why: str
