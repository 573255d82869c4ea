"""How two values of one number are held against each other: which way is worse, and how far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gradaudit.records import Estimate, Limit
from gradaudit.reports.numbers import TERMINAL, number, percent, power

Turn = Literal["worse", "better", "unchanged"]
_TINY = 1e-300  # a norm of exactly 0 has no logarithm


@dataclass(frozen=True)
class Scale:
    """``ratio`` compares as quotients, ``difference`` as they are.

    ``worse`` is ``up``, ``down``, or ``away`` from what is ideal: 1 as a ratio, 0 as a difference.
    """

    kind: Literal["ratio", "difference"]
    worse: Literal["up", "down", "away"]

    def turn(self, before: Estimate, now: Estimate, tolerance: float) -> Turn:
        """Whether ``now`` is worse or better by more than the intervals and the tolerance.

        ``tolerance`` is a share of the value before for a ratio, else in the number's own unit. An
        unknown bound counts as no further than the value.
        """
        old, new = self._spanned(before), self._spanned(now)
        allowed = math.log1p(tolerance) if self.kind == "ratio" else tolerance
        move = new.value - old.value
        if move > allowed and new.low > old.high:
            return "worse"
        if -move > allowed and new.high < old.low:
            return "better"
        return "unchanged"

    def _spanned(self, estimate: Estimate) -> _Span:
        low = estimate.value if estimate.low is None else estimate.low
        high = estimate.value if estimate.high is None else estimate.high
        value, low, high = (self._straight(each) for each in (estimate.value, low, high))
        if self.worse == "up":
            return _Span(value, low, high)
        if self.worse == "down":
            return _Span(-value, -high, -low)
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        return _Span(abs(value), nearest, max(abs(low), abs(high)))

    def _straight(self, value: float) -> float:
        """On a line where equal steps count the same."""
        return math.log(max(value, _TINY)) if self.kind == "ratio" else value


def decades(tolerance: Limit, before: float, tolerances: Mapping[str, Limit]) -> float:
    """How far a growth's decimal logarithm may move: a deep net's varies by more than a flat one's.

    It is the tolerance, or a share of the exponent where that is more.
    """
    return max(tolerance.value, tolerances["exponent"].value * abs(before))


def factor(log10: float) -> str:
    """Decades in words: ``a factor 10``."""
    return f"a factor {power(log10, TERMINAL)}"


def quotient(tolerance: float) -> str:
    """The tolerance of a ratio in words: ``10%``, ``a factor 4``."""
    return percent(tolerance) if tolerance < 1 else f"a factor {number(1 + tolerance, TERMINAL)}"


@dataclass(frozen=True)
class _Span:
    """Value and interval on a line where further up is worse."""

    value: float
    low: float
    high: float
