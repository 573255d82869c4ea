"""Lyapunov exponents of any chain of linear maps: how fast it stretches each direction per step.

The QR method (Benettin et al. 1980, Meccanica 15:9): an orthonormal frame is carried along,
``J_t Q_(t-1) = Q_t R_t``, and the exponents are the time averages of ``log |diag R_t|``. The order
matters: the frame goes through ``J_1`` first. For products taken from the other end the exponents
are the same, so a chain known by its transposes is carried backwards: ``J_t^T`` from the last t to
the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradaudit.linalg.series import mean_over_time

Push = Callable[[int, Tensor], Tensor]

BURN_IN = 1 / 3  # share of the steps dropped while the frame turns to the directions that grow
_LONGEST_BURN_IN = 200
_FEW_STEPS = 32  # below it the average belongs to these steps and not to the chain
# A trajectory forgets where it started at the rate of its largest exponent: e^-3 is 5%.
_SETTLED = 3.0


@dataclass(frozen=True)
class Exponents:
    """``values``: ``(value, low, high)`` per step in natural log, largest first.

    ``finite_time``: too few steps, or still too near the start: the values stand for these steps
    alone, and so do the intervals.
    ``collapsed``: directions that were carried but wiped out at some step (exponent -inf).
    """

    values: tuple[tuple[float, float | None, float | None], ...]
    steps: int
    finite_time: bool
    collapsed: int


def stretches(push: Push, steps: int, frame: Tensor) -> Tensor:
    """``[steps, n, k]`` natural log of ``|diag R_t|`` for ``J_t Q = Q' R``, t = 0 .. steps - 1.

    ``push(t, Q)`` gives ``J_t Q`` for ``Q`` of shape ``[n, d, k]``: n independent chains at once.
    ``frame`` is any full-rank start of that shape, float64. An entry below what rounding leaves of
    the largest column is -inf. Cost: k products and one QR per step. Bias: O(1 / steps) from the
    start frame (see :func:`exponents`, which drops the first steps).
    """
    frame = torch.linalg.qr(frame).Q
    resolution = 4 * frame.shape[1] * torch.finfo(frame.dtype).eps
    logs = []
    for t in range(steps):
        pushed = push(t, frame)
        frame, triangle = torch.linalg.qr(pushed)
        sizes = triangle.diagonal(dim1=-2, dim2=-1).abs()
        largest = pushed.norm(dim=-2).amax(dim=-1, keepdim=True)
        logs.append(torch.where(sizes <= resolution * largest, 0.0, sizes).log())
    return torch.stack(logs)


def aligned(push: Push, steps: int, frame: Tensor, enough: int) -> Tensor:
    """The frame after going through the first ``steps`` maps again and again, ``enough`` in all.

    Any start is valid; one that such maps have already turned towards the directions that grow
    leaves less of a transient than a random one. Cost: ``enough`` steps or up to one pass more.
    """
    frame = torch.linalg.qr(frame).Q
    for _ in range(0, enough if steps else 0, max(1, steps)):
        for t in range(steps):
            frame = torch.linalg.qr(push(t, frame)).Q
    return frame


def random_frame(n: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """``[n, size, count]`` float64 start frames; ``count`` is cut to ``size``."""
    count = min(count, size)
    return torch.randn(n, size, count, dtype=torch.float64, generator=generator)


def burn_in(steps: int) -> int:
    """How many of ``steps`` are dropped at the start; none of fewer than eight."""
    return 0 if steps < 8 else min(_LONGEST_BURN_IN, int(BURN_IN * steps))


def exponents(logs: Tensor, count: int | None = None, *, settling: int | None = None) -> Exponents:
    """The largest ``count`` exponents of ``[steps, n, k]`` stretches whose burn-in is dropped.

    The k columns may come from several chains side by side (the layers of a stack, whose joint
    Jacobian is block triangular). ``settling``: how many steps the trajectory was given to forget
    where it started, where the maps depend on one; compared with the largest exponent. Intervals
    are those of :func:`~gradaudit.linalg.series.mean_over_time`: 95% for the long-run average, or
    for the average over so many steps where that is all there is; with unknown sides (``None``)
    where one sequence cannot tell. Raises ``ValueError`` on NaN.
    """
    if bool(torch.isnan(logs).any()):
        raise ValueError("a stretch is not a number")
    columns = logs.unbind(dim=2)
    kept = [column for column in columns if bool(torch.isfinite(column).all())]
    collapsed = len(columns) - len(kept)
    kept.sort(key=lambda column: -float(column.mean()))
    finite_time = len(logs) < _FEW_STEPS
    if kept and settling is not None:
        finite_time |= settling * abs(float(kept[0].mean())) < _SETTLED
    values = tuple(mean_over_time(c, stationary=not finite_time) for c in kept[:count])
    return Exponents(values, len(logs), finite_time, collapsed)
