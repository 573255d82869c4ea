"""What the entries of a tensor say one by one, in one pass over float64 pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradaudit.linalg.dense import frobenius_norm

_PIECE = 2**18  # entries that are turned to float64 at a time
_ROUNDING = 2.0**-24  # float32's unit roundoff
_SQUARES = (1e-300, 1e300)  # sums of squares that float64 holds to its precision


@dataclass(frozen=True)
class Entries:
    """Counts and sizes; of numbers that are not finite only how many there are."""

    count: int
    nonfinite: int
    lowest: float  # of all entries: NaN or infinite where one is
    highest: float
    frobenius: float  # of the finite entries
    outputs: int  # slices along the axis of the output units
    dead: int  # those whose root mean square is below float32's rounding of the whole tensor's

    @property
    def finite(self) -> bool:
        """Whether all entries are finite numbers."""
        return self.nonfinite == 0

    @property
    def largest(self) -> float:
        """The largest modulus."""
        return max(-self.lowest, self.highest)

    @property
    def rms(self) -> float:
        """Root mean square of the finite entries."""
        held = self.count - self.nonfinite
        return self.frobenius / math.sqrt(held) if held else 0.0


def look_at(tensor: Tensor, axis: int = 0) -> Entries:
    """The entries of a floating tensor whose output units lie along ``axis``; memory for one piece
    and one number per output unit.
    """
    shape = tensor.shape
    outputs, after = shape[axis], math.prod(shape[axis + 1 :])
    block = tensor.detach().reshape(math.prod(shape[:axis]), outputs, after)
    squares = torch.zeros(outputs, dtype=torch.float64, device=tensor.device)
    nonfinite, lowest, highest = 0, math.inf, -math.inf
    for place, raw in _pieces(block):
        piece = raw.double()
        low, high = (float(end) for end in torch.aminmax(piece))
        if not math.isfinite(low + high) and not bool(piece.isfinite().all()):
            nonfinite += int((~piece.isfinite()).sum())
            piece = piece.nan_to_num(0.0, 0.0, 0.0)
        lowest, highest = _least(lowest, low), -_least(-highest, -high)
        squares[place] += piece.square_().sum((0, 2)) if piece is not raw else _squares(piece)
    total = float(squares.sum())
    frobenius = math.sqrt(total)
    if nonfinite == 0 and not _SQUARES[0] < total < _SQUARES[1]:
        frobenius = frobenius_norm(tensor)
    dead = int((squares <= _ROUNDING**2 * total / max(outputs, 1)).sum())
    return Entries(tensor.numel(), nonfinite, lowest, highest, frobenius, outputs, dead)


def _squares(piece: Tensor) -> Tensor:
    return piece.square().sum((0, 2))


def _least(a: float, b: float) -> float:
    """The smaller one; NaN wins."""
    return b if math.isnan(b) or b < a else a


def _pieces(block: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """``block`` (before, outputs, after) piece by piece, with the slice of outputs each lies in."""
    wide = min(block.shape[2], _PIECE)
    high = max(min(block.shape[1], _PIECE // max(wide, 1)), 1)
    deep = max(_PIECE // max(wide * high, 1), 1)
    start = 0
    for rows in block.split(high, dim=1):
        place = slice(start, start + rows.shape[1])
        start = place.stop
        for layers in rows.split(deep, dim=0):
            for piece in layers.split(max(wide, 1), dim=2):
                yield place, piece
