"""Extreme eigenvalues of any symmetric map, with a bound on either side.

Lanczos 1950, from a random start. The Ritz values lie inside the spectrum, so the largest is a
certain lower bound of the largest eigenvalue. What lies above it is bounded by what the start could
have missed: see :func:`extreme_eigenvalues`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_BASIS_ENTRIES = 2**23  # 32 MiB of float32; beyond it only the last two vectors are kept
_SHARP = 1e-3  # how well the distance of a bound is found, from outside
_CHUNK = 2**20  # entries whose products are summed in float64 at a time


@dataclass(frozen=True)
class SymmetricMap:
    """A symmetric linear map on flat vectors of ``size`` entries, known by its products.

    ``matvec`` returns a tensor of its own, which is then overwritten.
    """

    matvec: Callable[[Tensor], Tensor]
    size: int
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Bounds:
    """One eigenvalue: ``low <= value <= high``; a side that is not known is infinite."""

    value: float
    low: float
    high: float

    def negated(self) -> Bounds:
        """The bounds of minus the eigenvalue."""
        return Bounds(-self.value, -self.high, -self.low)


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    ``asymmetry`` is the largest ``|q' A p - p' A q|`` seen between two neighbouring basis vectors:
    rounding for a map that is symmetric. Both bounds are already widened by it.
    """

    top: Bounds
    bottom: Bounds
    steps: int  # products with the map
    exhausted: bool  # the basis spans an invariant subspace: exact to rounding
    asymmetry: float
    scale: float  # largest absolute Ritz value


@dataclass
class _Tridiagonal:
    """The projected map: ``alphas`` on the diagonal, ``betas`` beside it, the last one hanging."""

    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)
    asymmetry: float = 0.0

    def ritz(self) -> tuple[float, float]:
        """The smallest and the largest Ritz value."""
        beside = torch.tensor(self.betas[:-1], dtype=torch.float64)
        matrix = torch.diag(torch.tensor(self.alphas, dtype=torch.float64))
        values = torch.linalg.eigvalsh(matrix + torch.diag(beside, 1) + torch.diag(beside, -1))
        return float(values[0]), float(values[-1])


def extreme_eigenvalues(
    symmetric: SymmetricMap,
    steps: int,
    generator: torch.Generator,
    *,
    delta: float = 0.05,
    tolerance: float = 5e-3,
) -> Extremes:
    """The largest and the smallest eigenvalue in at most ``steps`` (one or more) products.

    Stops once the largest is known to ``tolerance`` of itself, and where the space or the map's
    rank is used up (then both are exact). The inner bounds are certain. Each outer bound holds
    with probability ``1 - delta`` over the start, for every number of steps at once, whatever the
    spectrum: the start, uniform on the sphere in ``n`` dimensions, carries a mass of at least
    ``pi delta^2 / (2 n)`` on the extreme eigenvector, and no measure with the moments that were
    seen has more mass at ``x`` than the Christoffel function ``1 / sum_j p_j(x)^2``, ``p_j`` the
    orthonormal Lanczos polynomials; so the eigenvalue lies where that leaves room for it (van
    Dorsselaer, Hochstenbach and van der Vorst, SIAM J. Matrix Anal. 22(3), 2000, bound with the
    last polynomial alone). Actual coverage is higher than ``1 - delta``: few spectra are the worst.

    Full reorthogonalisation where the basis fits ``MAX_BASIS_ENTRIES``, else against the last two
    vectors: orthogonality is then lost only towards what has converged already (Paige 1976).
    ``generator`` is a CPU generator, so that a seed means the same on every device. Raises
    ``FloatingPointError`` where a product is not finite.
    """
    n = symmetric.size
    limit = min(steps, n)
    kept = limit if n * limit <= MAX_BASIS_ENTRIES else min(limit, 2)
    mass = math.pi * delta * delta / (2 * n)
    eps = float(torch.finfo(symmetric.dtype).eps)
    found = _Tridiagonal()
    basis = torch.empty(kept, n, dtype=symmetric.dtype, device=symmetric.device)
    basis[0].copy_(torch.randn(n, generator=generator, dtype=symmetric.dtype))
    basis[0].div_(basis[0].norm())
    for k in range(1, limit + 1):
        _advance(symmetric, basis, k, found)
        bottom, top = found.ritz()
        scale = max(abs(bottom), abs(top))
        slack = max((8 + 2 * k) * eps * scale, found.asymmetry)
        if k == n or found.betas[-1] <= 16 * eps * scale:
            slack += 0.0 if k == n else found.betas[-1]
            return _extremes(found, (bottom, bottom), (top, top), slack, exhausted=True)
        high = _furthest(found.alphas, found.betas, top, mass)
        if high - top + 2 * slack <= tolerance * max(abs(top), 0.01 * scale):
            break
    mirrored = [-alpha for alpha in found.alphas]
    low = -_furthest(mirrored, found.betas, -bottom, mass)
    return _extremes(found, (low, bottom), (top, high), slack, exhausted=False)


def _extremes(
    found: _Tridiagonal,
    bottom: tuple[float, float],
    top: tuple[float, float],
    slack: float,
    *,
    exhausted: bool,
) -> Extremes:
    return Extremes(
        top=Bounds(top[0], top[0] - slack, top[1] + slack),
        bottom=Bounds(bottom[1], bottom[0] - slack, bottom[1] + slack),
        steps=len(found.alphas),
        exhausted=exhausted,
        asymmetry=found.asymmetry,
        scale=max(abs(bottom[1]), abs(top[0])),
    )


def _advance(symmetric: SymmetricMap, basis: Tensor, k: int, found: _Tridiagonal) -> None:
    """Product ``k``: a row of the tridiagonal, and the next basis vector.

    The rows of ``basis`` are written round and round; the last one stands at ``(k - 1) % rows``.
    Everything is done in place: on a large model each vector is a copy of the parameters.
    """
    kept = len(basis)
    q = basis[(k - 1) % kept]
    residual = symmetric.matvec(q)
    alpha = dot(q, residual)
    if k > 1 and kept > 1:
        before = basis[(k - 2) % kept]
        back = dot(before, residual)
        found.asymmetry = max(found.asymmetry, abs(back - found.betas[-1]))
        residual.add_(before, alpha=-back)
    residual.add_(q, alpha=-alpha)
    known = basis[: min(k, kept)]
    for _ in range(2):  # twice is enough (Kahan)
        residual.addmv_(known.T, known @ residual, alpha=-1)
    beta = math.sqrt(dot(residual, residual))
    if not math.isfinite(alpha) or not math.isfinite(beta):
        raise FloatingPointError("a product with the map is not finite")
    found.alphas.append(alpha)
    found.betas.append(beta)
    if beta > 0:
        torch.div(residual, beta, out=basis[k % kept])


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product of two flat vectors, summed in float64."""
    if len(a) <= _CHUNK:
        return float(a.double() @ b.double())
    pieces = zip(a.split(_CHUNK), b.split(_CHUNK), strict=True)
    return math.fsum(float(x.double() @ y.double()) for x, y in pieces)


def _furthest(alphas: Sequence[float], betas: Sequence[float], ritz: float, mass: float) -> float:
    """The largest point that can carry ``mass`` given the moments seen; ``ritz`` or above."""

    def room(x: float) -> float:
        """Sum of the squared orthonormal polynomials at ``x``, grows above the top Ritz value."""
        before, now, total, beside = 0.0, 1.0, 1.0, 0.0
        for alpha, beta in zip(alphas, betas, strict=True):
            before, now = now, ((x - alpha) * now - beside * before) / beta
            beside = beta
            total += now * now
            if total > limit:
                break
        return total

    limit = 1e200  # so that squares stay finite
    # A start with less mass on its own Ritz value than is likely: let that be the measure.
    limit = min(max(1 / mass, 4 * room(ritz)), 1e200)
    inside, step = ritz, max(betas)
    while room(ritz + step) <= limit:
        inside, step = ritz + step, 2 * step
    outside = ritz + step
    for _ in range(60):
        if outside - inside <= _SHARP * (outside - ritz):
            break
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if room(middle) <= limit else (inside, middle)
    return outside
