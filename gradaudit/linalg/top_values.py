"""The few largest singular values of any linear map, each with a bound on either side.

Golub-Kahan-Lanczos bidiagonalisation as in :mod:`gradaudit.linalg.golub_kahan`, but begun anew from
a random vector outside the basis whenever the Krylov space is used up, so that values that occur
several times are found as often, and small or low-rank maps exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradaudit.linalg.ceilings import likely_ceiling
from gradaudit.linalg.golub_kahan import LinearMap, NormBounds

# A Krylov space that is coupled to the rest by less (of the largest eigenvalue) counts as used up.
UNCOUPLED = 1e-6


class NotFinite(ArithmeticError):
    """A product with the map was NaN or infinite."""


class NotAdjoint(ArithmeticError):
    """The map's two products are not each other's transposes."""


@dataclass
class _Run:
    """One Krylov space: the bidiagonal projection, from a start in ``dimension`` dimensions."""

    dimension: int
    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)
    used_up: bool = False

    def values(self) -> list[float]:
        """Singular values of the projected map."""
        k = len(self.alphas)
        upper = torch.diag(torch.tensor(self.alphas, dtype=torch.float64))
        upper += torch.diag(torch.tensor(self.betas[: k - 1], dtype=torch.float64), 1)
        return [float(s) for s in torch.linalg.svdvals(upper)]

    def ceiling(self, delta: float) -> float:
        """What no singular value in the run's dimensions exceeds, with probability 1 - delta."""
        values = self.values()
        top = values[0]
        if self.used_up:
            ritz = [value * value for value in values]
            couplings = [a * b for a, b in zip(self.alphas, self.betas, strict=True)]
            return math.sqrt(likely_ceiling(ritz, couplings, self.dimension, delta))
        root = math.log(1.648 * math.sqrt(self.dimension) / delta) / (2 * len(self.alphas) - 1)
        return top / math.sqrt(1 - root**2) if root < 1 else math.inf


def top_singular_values(
    linear_map: LinearMap,
    steps: int,
    generator: torch.Generator,
    *,
    count: int = 3,
    delta: float = 0.05,
) -> tuple[NormBounds, ...]:
    """The ``count`` largest singular values (with multiplicity) in at most ``steps`` products.

    Ritz values lie below the singular values of their rank (Cauchy's interlacing), surely. Above,
    the random start gives ``sigma_1 <= ritz / sqrt(1 - eps)``, ``eps = (ln(1.648 sqrt(n) / delta) /
    (2k - 1))^2``, with probability ``1 - delta`` (Kuczynski and Wozniakowski, SIAM J. Matrix Anal.
    13(4), 1992). A smaller value may hide behind one equal to it, so until a Krylov space is used
    up its only honest bound from above is that of the largest. Where the space of the start and
    those begun after it are used up, :func:`gradaudit.linalg.ceilings.likely_ceiling` bounds
    what they may have missed; where all dimensions are, the values are exact (to ``UNCOUPLED``).
    ``high`` is infinite where no bound holds yet.

    Fewer than ``count`` come back where the map has fewer dimensions or ``steps`` is less. Raises
    :class:`NotFinite` where a product is NaN or infinite, :class:`NotAdjoint` where ``<u, A v>``
    and ``<A^T u, v>`` differ by more than the root of the dtype's precision. The relative rounding
    of the bounds is four times the largest such difference seen, or the dtype's if that is more.
    """
    if linear_map.columns > linear_map.rows:
        linear_map = linear_map.transposed()
    n = linear_map.columns
    limit = min(steps, n)
    if limit < 1:
        return ()
    search = _Search(linear_map, limit, generator)
    while search.taken < limit and not search.settled(count):
        search.step()
    if search.taken == n:
        search.runs[-1].used_up = True
    return search.bounds(count, delta)


class _Search:
    """The runs so far and the orthonormal basis they share."""

    def __init__(self, linear_map: LinearMap, limit: int, generator: torch.Generator) -> None:
        self.map, self.generator = linear_map, generator
        self.taken = 0
        self.runs: list[_Run] = []
        self.rounding = linear_map.rounding
        self.coupled = 0.0  # what ties the runs together: their eigenvalues are off by no more
        self.basis = torch.empty(
            limit, linear_map.columns, dtype=linear_map.dtype, device=linear_map.device
        )
        self.u = torch.zeros(linear_map.rows, dtype=linear_map.dtype, device=linear_map.device)
        self._compare_first()
        self.v = self._begin()

    def _compare_first(self) -> None:
        """Compare the products where the transpose's is not zero: the other may not be either."""
        m = self.map.rows
        u = torch.randn(m, generator=self.generator, dtype=torch.float64).to(self.u)
        u = u / _norm(u)
        back = self.map.rmatvec(u)
        size = _norm(back)
        if size > 0:
            v = back / size
            self._compare(u, self.map.matvec(v), back, v)

    def _begin(self) -> Tensor:
        """A new run, from a start uniform on the sphere outside the basis."""
        n = self.map.columns
        self.runs.append(_Run(n - self.taken))
        start = torch.randn(n, generator=self.generator, dtype=torch.float64)
        known = self.basis[: self.taken]
        start = _orthogonal((start / start.norm()).to(self.basis), known)
        self.u = torch.zeros_like(self.u)
        return start / _norm(start)

    def step(self) -> None:
        """One product with the map and one with its transpose."""
        if self.runs[-1].used_up:
            self.v = self._begin()
        run = self.runs[-1]
        self.basis[self.taken] = self.v
        self.taken += 1
        image = self.map.matvec(self.v)
        u = image - (run.betas[-1] if run.betas else 0.0) * self.u
        alpha = _norm(u)
        self.u = u / alpha if alpha > 0 else u
        back = self.map.rmatvec(self.u)
        self._compare(self.u, image, back, self.v)
        residual = _orthogonal(back - alpha * self.v, self.basis[: self.taken])
        beta = _norm(residual)
        run.alphas.append(alpha)
        run.betas.append(beta)
        largest = max(max(r.alphas) for r in self.runs)
        coupling = alpha * beta
        if coupling <= max(self.rounding, UNCOUPLED) * max(largest, *run.betas) ** 2:
            run.used_up = True
            self.coupled += coupling
        else:
            self.v = residual / beta

    def _compare(self, u: Tensor, image: Tensor, back: Tensor, v: Tensor) -> None:
        """Judge the map's rounding by how far its products A v and A^T u are from being adjoint."""
        size = _norm(image) + _norm(back)
        if not math.isfinite(size):
            raise NotFinite("a product with the Jacobian is not finite")
        if size == 0:
            return
        error = abs(_dot(u, image) - _dot(back, v)) / size
        if error > math.sqrt(torch.finfo(self.map.dtype).eps):
            raise NotAdjoint("forward and backward products do not belong to one Jacobian")
        self.rounding = max(self.rounding, 4 * error)

    def settled(self, count: int) -> bool:
        """Whether the first ``count`` values are exact already."""
        if not self.runs[-1].used_up:
            return False
        known = self._ritz()[:count]
        return len(known) == count and known[-1] >= self.runs[-1].values()[0]

    def _ritz(self) -> list[float]:
        return sorted((s for run in self.runs for s in run.values()), reverse=True)

    def bounds(self, count: int, delta: float) -> tuple[NormBounds, ...]:
        """Bounds of the first ``count`` values from all runs together."""
        found, last = self._ritz(), self.runs[-1]
        whole = self.taken == self.map.columns
        rest = 0.0 if whole else last.ceiling(delta)
        done = [s for run in self.runs if run.used_up for s in run.values()]
        exact = sorted(done, reverse=True) + [0.0] * count
        root = math.sqrt(self.coupled)
        return tuple(
            NormBounds(
                value,
                value * (1 - self.rounding),
                math.hypot(max(value, exact[j], rest), root) * (1 + self.rounding),
                self.taken,
                whole,
            )
            for j, value in enumerate(found[:count])
        )


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a.double() @ b.double())


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` less its part in the span of ``basis``' rows; twice is enough (Kahan)."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
