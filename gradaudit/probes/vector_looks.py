"""Biases and the scales of normalisation layers, by what a judgement of their state needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gradaudit.linalg.dense import pieces
from gradaudit.linalg.entries import look_at
from gradaudit.probes.weight_sites import Weights, vectors


@dataclass(frozen=True)
class VectorLook:
    """The entries of one vector, summed up."""

    name: str
    module: str
    count: int
    lowest: float
    highest: float
    mean: float
    rms: float
    finite: bool

    @property
    def largest(self) -> float:
        """The largest modulus."""
        return max(-self.lowest, self.highest)


def look_at_vector(name: str, module: str, vector: Tensor) -> VectorLook:
    """The look of a floating vector."""
    entries = look_at(vector)
    total = math.fsum(float(part.sum()) for part in pieces(vector.reshape(-1, 1)))
    return VectorLook(
        name,
        module,
        entries.count,
        entries.lowest,
        entries.highest,
        total / max(entries.count, 1) if entries.finite else math.nan,
        entries.rms,
        entries.finite,
    )


def look_at_vectors(source: Weights) -> Iterator[VectorLook]:
    """One look for each of :func:`gradaudit.probes.weight_sites.vectors`."""
    return (look_at_vector(name, module, vector) for name, module, vector in vectors(source))
