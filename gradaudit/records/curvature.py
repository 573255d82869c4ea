"""Curvature of the loss at the start, and what it allows the learning rate to be."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.records.estimate import Estimate


@dataclass(frozen=True)
class Curvature:
    """Largest eigenvalue of the loss's Hessian H, plain and preconditioned.

    ``ceiling`` and ``rate_ceiling`` are the two readings of one stability condition: the curvature
    the recipe's rate can bear, and the rate that the measured curvature can bear. Both hold for
    quadratics; training often passes them for a while (progressive sharpening, catapults).
    """

    sharpness: Estimate | None  # lambda_max(H), loss per squared parameter
    preconditioned_sharpness: Estimate | None  # lambda_max(P^-1 H), P = diag(sqrt(v) + eps)
    ceiling: Estimate | None  # on the one the optimizer feels, at the recipe's rate
    rate_ceiling: Estimate | None = None  # the rate at which the measured curvature is critical
    rule: str = ""  # "2 / lr", "(2 + 2 momentum) / lr", ...
    optimizer: str = ""
    products: int = 0  # Hessian-vector products spent
    samples: int = 0  # rows of the (sub-)batch it was measured on
    of_batch: int = 0  # rows of the whole batch
    lowest: Estimate | None = None  # lambda_min(H): negative where there is a way down
