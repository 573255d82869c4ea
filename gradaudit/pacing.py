"""How far along the work is: what is being done, how much of it is done, how long the rest takes.

Work comes in parts (measuring, searching for a cure), a part in phases whose cost is planned in
seconds of an ordinary machine. How fast this one is shows as phases end, so what is left is planned
cost times measured pace. Times are shown and never decide anything: reports stay repeatable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_PRIOR = 0.2  # seconds for which the planned costs are trusted before measured ones count
_OVERDUE = 0.9  # of its planned time, from which on a phase is known to take longer


@dataclass
class Progress:
    """What is told while an audit runs, and where whoever shows it finds how far it is.

    Call it with what is being done now. ``plan`` starts a part; without a plan nothing is known of
    the time that is left.
    """

    clock: Callable[[], float] = time.monotonic
    heading: str = ""  # of all that follows: which model of several
    part: str = ""
    what: str = "starting"
    detail: str = ""
    _phases: dict[str, float] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    _now: str = ""
    _within: float | None = None  # share of the phase that is done, where it says so
    _began: float = 0.0  # the part
    _entered: float = 0.0  # the phase

    def __post_init__(self) -> None:
        self._began = self._entered = self.clock()

    def plan(self, part: str, phases: Mapping[str, float]) -> None:
        """Start a part: its phases in order, and about how many seconds each takes."""
        self.part, self._phases = part, {name: max(cost, 0.0) for name, cost in phases.items()}
        self._order = {name: i for i, name in enumerate(self._phases)}
        self._began = self._entered = self.clock()
        self._now, self._within, self.detail = "", None, ""

    def __call__(self, what: str, phase: str | None = None) -> None:
        """Something begins: the phase of that name, or ``phase``; else it is only said."""
        self.what, self.detail = what, ""
        name = phase or what
        if name in self._order and name != self._now:
            self._now, self._within, self._entered = name, None, self.clock()

    def within(self, share: float, detail: str = "") -> None:
        """How much of what was begun is done."""
        self._within, self.detail = min(max(share, 0.0), 1.0), detail

    def forget(self) -> None:
        """No part is planned any more: the next one is yet to be."""
        self.plan("", {})

    @property
    def known(self) -> bool:
        """Whether the time left can be told."""
        return bool(self._now) and sum(self._phases.values()) > 0

    @property
    def spent(self) -> float:
        """Seconds since the part began."""
        return self.clock() - self._began

    @property
    def done(self) -> float:
        """Share of the part that is done, in expected time."""
        spent = self.spent
        return spent / (spent + self.left) if spent > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds that the rest of the part is expected to take."""
        if not self.known:
            return 0.0
        place, in_phase = self._order[self._now], self.clock() - self._entered
        past = sum(cost for name, cost in self._phases.items() if self._order[name] < place)
        future = sum(cost for name, cost in self._phases.items() if self._order[name] > place)
        pace = (self._entered - self._began + _PRIOR) / (past + _PRIOR)
        planned = self._phases[self._now]
        if self._within is not None and self._within > 0:
            rest = in_phase * (1 - self._within) / self._within
        else:
            # a phase that is over its time takes as long again as it is over
            expected = planned * pace
            rest = max(expected - in_phase, in_phase - _OVERDUE * expected, 0.0)
            rest = min(rest, max(expected, in_phase))
        return rest + future * pace


class _Silent(Progress):
    """Where nobody listens: nothing is kept."""

    def plan(self, part: str, phases: Mapping[str, float]) -> None:
        """Nothing."""

    def __call__(self, what: str, phase: str | None = None) -> None:
        """Nothing."""

    def within(self, share: float, detail: str = "") -> None:
        """Nothing."""


QUIET = _Silent()


def time_left(seconds: float) -> str:
    """``8 s left``, ``3 min left``: as exact as it can be known."""
    if seconds < 1:
        return "a moment left"
    if seconds < 10:
        return f"{seconds:.0f} s left"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"
