"""What longer training showed, read against the best constant prediction and a steady recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gradaudit.records import Measurements, Outlook, Trial

Course = Literal["trains", "stalls", "diverges", "open"]
HALFWAY = 0.5  # what the contract calls a stall: less than halfway from the constant to the best
LEFT = 1.5  # times the constant's loss, and above its own start: it left for good
_NOTHING = 0.03  # of the constant's loss: what neither training took off is no measure of the task
_NEAR = 0.1  # of halfway: too close to be sure


@dataclass(frozen=True)
class Reading:
    """Where training stands at the end of the outlook, and where it is heading."""

    course: Course
    progress: float | None  # of the way from the constant to the least loss seen, at the last step
    share: float  # of the recipe's steps that were taken
    sure: bool  # the end itself was seen, and is not too close to call


def reading(measurements: Measurements) -> Reading | None:
    """``None`` where no training beyond the rehearsal was affordable."""
    outlook = measurements.outlook
    if outlook is None:
        return None
    own, share = outlook.own, min(1.0, outlook.own.steps / outlook.of)
    if own.broke_at is not None:
        return Reading("diverges", None, share, sure=True)
    if own.settled:
        return Reading("trains", 1.0, share, sure=True)
    constant = _constant(outlook, measurements)
    if own.end > LEFT * constant and own.end > own.start:
        return Reading("diverges", None, share, sure=own.end > 3 * own.lowest)
    if measurements.state.state == "trained" and own.start < constant:
        return _of_learned(own, share)
    final = _expected(own, outlook.of)
    floor = max(0.0, min(_floor(outlook), final))
    if constant - floor < _NOTHING * constant:
        # Neither learned anything: at the end that is a stall, before it nobody knows.
        return Reading("stalls" if share >= 1 else "open", 0.0, share, sure=False)
    progress = (constant - final) / (constant - floor)
    if final <= HALFWAY * constant:  # halfway to zero, which is at least halfway to the best
        progress = max(progress, HALFWAY)
    course: Course = "trains" if progress >= HALFWAY else "stalls"
    sure = abs(progress - HALFWAY) > _NEAR and share >= 0.5
    return Reading(course, progress, share, sure)


def _constant(outlook: Outlook, measurements: Measurements) -> float:
    """The best constant prediction's loss; for losses without one, what training starts from."""
    if outlook.constant is not None and outlook.constant > 0:
        return outlook.constant
    loss = measurements.loss
    if loss is not None and loss.chance is not None:
        return loss.chance
    return max(outlook.own.start, 1e-12)


def _floor(outlook: Outlook) -> float:
    """The least loss that either training came to."""
    reached = [outlook.own.lowest]
    reference = outlook.reference
    if reference is not None and reference.broke_at is None:
        reached.append(reference.lowest)
    return min(reached)


def _expected(own: Trial, of: int) -> float:
    """The loss at the recipe's last step: each further doubling takes off what the last one did."""
    if own.steps >= of or len(own.losses) < 4:
        return own.end
    half = own.losses[len(own.losses) // 2 - 1]
    taken = max(0.0, half - own.end)
    return own.end - taken * math.log2(of / own.steps)


def _of_learned(own: Trial, share: float) -> Reading:
    """Learned weights have gone most of the way: what counts is that they stay there."""
    if own.end > 1.5 * own.start:
        return Reading("diverges", None, share, sure=False)
    return Reading("trains", 1.0, share, sure=True)
