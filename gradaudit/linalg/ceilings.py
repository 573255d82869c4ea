"""What a Lanczos run may have missed above its Ritz values, told from its random start."""

from __future__ import annotations

import math
from collections.abc import Sequence


def likely_ceiling(
    ritz: Sequence[float], couplings: Sequence[float], dimension: int, delta: float
) -> float:
    """What no eigenvalue of ``A^T A`` exceeds, with probability ``1 - delta``, after ``k`` steps.

    ``ritz`` are the ``k`` Ritz values, ``couplings`` the entries beside the projection's diagonal
    with the hanging one. The eigenvector of an eigenvalue ``t`` has a product of at most one with
    the next basis vector; that is the product with the start times ``prod(t - ritz_i) /
    prod(couplings_i)`` (Hochstenbach, J. Sci. Comput. 57, 2013). The start, uniform on the sphere,
    has a component of at least ``delta sqrt(pi / 2n)`` along it, whichever ``k`` is.
    """
    top = max(ritz)
    if not all(coupling > 0 for coupling in couplings):
        return top
    component = delta * math.sqrt(math.pi / (2 * dimension))
    most = math.fsum(map(math.log, couplings)) - math.log(component)
    low, high = 0.0, math.exp(most / len(ritz))  # every factor is at least t - top
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        reached = math.fsum(math.log(middle + (top - value)) for value in ritz)
        low, high = (low, middle) if reached > most else (middle, high)
    return top + high
