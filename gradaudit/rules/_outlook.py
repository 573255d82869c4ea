"""What longer training showed, read against the best constant prediction and a steady recipe.

Losses are read on a scale of their own: 1 is the best constant prediction, 0 a perfect one. A
sample of a few batches can be learned by heart, so a net that trains comes far down on it, also
where the task itself would not let it: halfway to the best of the task is about halfway to 0. The
batch held out tells learning from learning by heart. The limits were set on the half of the corpus
that is tuned on (tests/corpus/tune, 379 recipes trained to the end).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gradaudit.records import Measurements, Outlook, Trial

Course = Literal["trains", "stalls", "diverges", "open"]
HALFWAY = 0.5  # what the contract calls a stall: less than halfway from the constant to the best
DOWN = 0.56  # sound recipes end at 0.52 or less (two of 162 do not), stalling ones above it
LEFT = 1.5  # times the constant's loss, and above its own start: it left for good
BY_HEART = 0.95  # of the constant's loss: the batch held out never came below it
_SLOWLY = 0.3  # where sound nets that learn by heart are halfway; those that stall are above it
_ELSEWHERE = 7.0  # times the constant's loss on the batch held out: sound nets stay below 5.3
_EARLY = 0.25  # of the recipe's steps: before that, what is not down yet may still come down
_MOST = 0.6  # of the recipe's steps: before that, slowly is not yet too slowly
_FLOOR = 0.7  # above it a plateau is not what the task allows
_LEVEL = 0.06  # a curve that moves less than this in its second half is at its plateau
_PLAINLY = 0.8  # of the constant's loss: what comes below it within a few steps is learning
_NO_SCALE = 1e-11
_LEARNED = 0.05  # of the constant's loss: what is less may be noise
_RELAPSE = 1.25  # times the lowest level seen: on its way up again


@dataclass(frozen=True)
class Reading:
    """Where training stands at the end of the outlook, and where it is heading."""

    course: Course
    level: float | None  # the loss expected at the recipe's last step: 1 the constant's, 0 perfect
    share: float  # of the recipe's steps that were taken
    sure: bool  # seen to the end or nearly so, and not close to call

    @property
    def progress(self) -> float | None:
        """Of the way from the constant to a perfect prediction."""
        return None if self.level is None else 1.0 - self.level


def reading(measurements: Measurements) -> Reading | None:
    """``None`` where no training beyond the rehearsal was affordable."""
    outlook = measurements.outlook
    if outlook is None:
        return None
    own, share = outlook.own, min(1.0, outlook.own.steps / outlook.of)
    if own.broke_at is not None:
        return Reading("diverges", None, share, sure=True)
    scale = _Scale.of(outlook, measurements)
    if scale.constant - scale.least < _NO_SCALE:  # a loss of its own that starts at zero or below
        return Reading("open", None, share, sure=False)
    end, start = scale(own.end), scale(own.start)
    if end > LEFT and own.end > own.start:
        return Reading("diverges", end, share, sure=end > 2 * LEFT)
    if measurements.state.state == "trained" and start < 1:
        return _of_learned(own, end, share)
    final = max(end - _still_to_come(own, scale, outlook.of), min(end, 0.0))
    if share < _EARLY and end > DOWN:
        return Reading("open", final, share, sure=False)
    if final > DOWN or _relapses(own, scale):
        at_floor = _at_the_tasks_floor(outlook, scale, final)
        sure = final > 0.8 and share >= 0.5 and end < LEFT
        return Reading("trains" if at_floor else "stalls", final, share, sure)
    if _by_heart(outlook, scale, share):
        return Reading("stalls", final, share, sure=False)
    return Reading("trains", final, share, sure=_clearly(outlook, final))


@dataclass(frozen=True)
class _Scale:
    """Losses in units of the way from a perfect prediction to the best constant one."""

    constant: float
    least: float

    def __call__(self, loss: float) -> float:
        return (loss - self.least) / (self.constant - self.least)

    @classmethod
    def of(cls, outlook: Outlook, measurements: Measurements) -> _Scale:
        """Of a loss whose perfect value is unknown 0 is the least that either training reached.

        Where nothing at all is known, the start stands in for the constant.
        """
        loss, constant = measurements.loss, outlook.constant
        if constant is None and loss is not None:
            constant = loss.chance
        least = outlook.least
        if least is None:
            reached = _reached(outlook)
            learned = constant is not None and constant - reached >= _LEARNED * abs(constant)
            least = reached if learned else min(0.0, reached)
        if constant is None or constant <= least:
            first = None if loss is None or loss.initial is None else loss.initial.value
            starts = [outlook.own.start, *([first] if first is not None else [])]
            constant = max(min(starts), least + 1e-12)
        return cls(constant, least)


def _reached(outlook: Outlook) -> float:
    """The least level that either training came to."""
    trials = [outlook.own, *([outlook.reference] if outlook.reference is not None else [])]
    return (
        min(each.lowest for each in trials if each.losses)
        if any(each.losses for each in trials)
        else 0.0
    )


def _still_to_come(own: Trial, scale: _Scale, of: int) -> float:
    """Each further doubling of the steps is taken to bring what the last one brought.

    Nothing where the loss is not yet below the constant's: it may only be on its way there.
    """
    if own.steps >= of or len(own.losses) < 4 or scale(own.end) > 1:
        return 0.0
    return max(0.0, _half(own, scale) - scale(own.end)) * math.log2(of / own.steps)


def _half(own: Trial, scale: _Scale) -> float:
    """The level when half of the steps had been taken."""
    return scale(own.losses[len(own.losses) // 2]) if own.losses else scale(own.end)


def _relapses(own: Trial, scale: _Scale) -> bool:
    """Whether the loss is on its way up again, from a level that was not deep."""
    end = scale(own.end)
    return end > 0.4 and end > _RELAPSE * scale(own.lowest)


def _at_the_tasks_floor(outlook: Outlook, scale: _Scale, final: float) -> bool:
    """Whether a plateau is as low as a steady recipe comes: noise, or a text's own entropy."""
    own, other = outlook.own, outlook.reference
    if final > _FLOOR or _relapses(own, scale) or other is None or other.broke_at is not None:
        return False
    settled = abs(_half(own, scale) - scale(own.end)) < _LEVEL
    return settled and scale(other.lowest) > scale(own.lowest) - 0.03


def _by_heart(outlook: Outlook, scale: _Scale, share: float) -> bool:
    """Whether the sample was learned by heart, and slowly: more data would not be learned so."""
    held = _held(outlook)
    if held is None:
        return False
    slowly = share >= _MOST and _half(outlook.own, scale) > _SLOWLY
    return held > _ELSEWHERE or (held > BY_HEART and slowly)


def _clearly(outlook: Outlook, final: float) -> bool:
    held = _held(outlook)
    return final < 0.45 and held is not None and held < 0.9


def _held(outlook: Outlook) -> float | None:
    """The least loss on the batch held out, in units of the constant's; ``None`` without one."""
    lowest, constant = outlook.own.held_lowest, outlook.held_constant
    return None if lowest is None or constant is None or constant <= 0 else lowest / constant


def held_out(measurements: Measurements) -> float | None:
    """The least loss on the batch held out, in units of the best constant prediction's."""
    return None if measurements.outlook is None else _held(measurements.outlook)


def learns_beyond(measurements: Measurements, *, surely: bool = False) -> bool:
    """Whether what is learned goes beyond the sample, or (unless ``surely``) is learned fast."""
    outlook = measurements.outlook
    held = None if outlook is None else _held(outlook)
    if outlook is None or held is None or held < BY_HEART:
        return True
    early = outlook.own.steps < _MOST * outlook.of
    fast = early or _half(outlook.own, _Scale.of(outlook, measurements)) <= _SLOWLY
    return not surely and held <= _ELSEWHERE and fast


@dataclass(frozen=True)
class Pace:
    """How training went on the way, on the scale of the levels."""

    half: float  # the level when half of the steps had been taken
    rise: float  # the largest way up again from the lowest level so far


def pace(measurements: Measurements) -> Pace | None:
    """``None`` where training was not followed, or broke."""
    outlook = measurements.outlook
    if outlook is None or outlook.own.broke_at is not None or not outlook.own.losses:
        return None
    scale, own = _Scale.of(outlook, measurements), outlook.own
    levels = [min(scale(loss), LEFT) for loss in own.losses]
    lowest, rise = levels[0], 0.0
    for level in levels[len(levels) // 8 :]:
        lowest = min(lowest, level)
        rise = max(rise, level - lowest)
    return Pace(_half(own, scale), rise)


def ill(measurements: Measurements) -> bool:
    """Whether training was followed far enough to see that it stalls or diverges."""
    read = reading(measurements)
    return read is not None and read.course in ("stalls", "diverges")


def recipe_to_blame(measurements: Measurements) -> bool:
    """Whether the same start comes down under a steady recipe, in no more steps."""
    outlook = measurements.outlook
    other = None if outlook is None else outlook.reference
    if outlook is None or other is None or other.broke_at is not None or not other.losses:
        return False
    scale, own = _Scale.of(outlook, measurements), outlook.own
    reached = scale(other.lowest)
    if own.broke_at is not None or not own.losses:
        return reached <= _PLAINLY
    place = min(len(own.losses) - 1, round(len(own.losses) * other.steps / own.steps))
    there = min(scale(own.losses[place]), 1.0)
    return (reached <= DOWN and reached < there - 0.1) or (
        1 - reached >= 0.1 and 1 - reached >= 2.5 * (1 - there)
    )


def _of_learned(own: Trial, end: float, share: float) -> Reading:
    """Learned weights have gone most of the way: what counts is that they stay there."""
    if own.end > 1.5 * own.start and end > 0.3:
        return Reading("diverges" if end > 1 else "stalls", end, share, sure=False)
    return Reading("trains", end, share, sure=True)
