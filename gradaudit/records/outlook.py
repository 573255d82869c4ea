"""What longer training showed, where its steps are small enough to be taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """Training from the start weights for some of the recipe's steps."""

    optimizer: str
    lr: float | None
    steps: int  # taken
    losses: tuple[float, ...]  # means over equal parts of the way, finite
    start: float  # mean loss of the first visits to the batches
    end: float  # mean loss over the last visits
    lowest: float  # the least mean over one visit to each batch
    broke_at: int | None  # the step whose loss or gradient was not finite, or that left for good
    held_out: float | None = None  # loss of a batch that was not trained on, at the end
    held_lowest: float | None = None  # the least it came to on the way, from the first look on
    held_start: float | None = None  # before the first step
    settled: str = ""  # why it stopped before the steps it could have taken


@dataclass(frozen=True)
class Outlook:
    """The recipe's own training, and beside it what the same start allows under a steady one."""

    of: int  # steps the user means to take
    affordable: int  # steps that were within the allowance
    own: Trial
    reference: Trial | None
    constant: float | None  # loss of the best constant prediction on the batches trained on
    held_constant: float | None = None  # the same prediction on the batch held out
    least: float | None = None  # loss of a perfect prediction; None where unknown
