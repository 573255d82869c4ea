"""Largest singular value of any linear map, with a bound on either side.

The method is Golub-Kahan-Lanczos (Golub and Kahan 1965) from a random start, run as Lanczos on
``A^T A`` in products with ``A`` and ``A^T``: the same subspace as the bidiagonalisation's, with the
right basis alone, fully reorthogonalised. Squaring costs digits at the bottom of the spectrum, not
at the top, where the error stays at rounding relative to the norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradaudit.linalg.ceilings import likely_ceiling

MAX_BASIS_ENTRIES = 64 * 2**20  # 256 MiB of float32; fewer steps on maps too large for that
CHECK_EVERY = 4  # steps between two looks at the bounds


@dataclass(frozen=True)
class LinearMap:
    """A linear map between flat vectors, known by what it does.

    ``matvec`` takes a vector of ``columns`` entries to one of ``rows`` entries, ``rmatvec`` is its
    transpose. Both take and return one-dimensional tensors of ``dtype`` on ``device``.
    """

    matvec: Callable[[Tensor], Tensor]
    rmatvec: Callable[[Tensor], Tensor]
    rows: int
    columns: int
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    # A^T A and A A^T in one go, where that is cheaper:
    normal: Callable[[Tensor], Tensor] | None = None
    conormal: Callable[[Tensor], Tensor] | None = None

    def transposed(self) -> LinearMap:
        """The same map, read the other way."""
        return replace(
            self,
            matvec=self.rmatvec,
            rmatvec=self.matvec,
            rows=self.columns,
            columns=self.rows,
            normal=self.conormal,
            conormal=self.normal,
        )

    def twice(self, x: Tensor) -> Tensor:
        """``A^T A x``."""
        return self.rmatvec(self.matvec(x)) if self.normal is None else self.normal(x)

    @property
    def rounding(self) -> float:
        """Relative error to expect of a norm: machine epsilon times the root of the sizes."""
        return float(torch.finfo(self.dtype).eps) * math.sqrt(self.rows + self.columns)


@dataclass(frozen=True)
class NormBounds:
    """A largest singular value: ``low <= sigma <= high``, ``high`` infinite where unknown.

    ``low`` always holds (to rounding); ``high`` holds with the probability asked for, surely where
    ``certain``. ``steps`` counts products with the map and its transpose.
    """

    value: float
    low: float
    high: float
    steps: int = 0
    certain: bool = False

    @classmethod
    def exact(cls, value: float, rounding: float = 0.0, steps: int = 0) -> NormBounds:
        """A value known up to a relative ``rounding`` error."""
        return cls(value, value * (1 - rounding), value * (1 + rounding), steps, certain=True)

    def widened(self, slack: float) -> NormBounds:
        """The bounds for a map known to within ``slack`` in norm."""
        return replace(self, low=max(self.low - slack, 0.0), high=self.high + slack)

    def scaled(self, factor: float) -> NormBounds:
        """The bounds of the map times a positive ``factor``."""
        return NormBounds(
            self.value * factor, self.low * factor, self.high * factor, self.steps, self.certain
        )


@dataclass
class _Projection:
    """``A^T A`` on the basis: tridiagonal, ``betas`` beside the diagonal, the last one hanging."""

    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.alphas)

    def gram(self) -> Tensor:
        """The projection of ``A^T A``, steps x steps."""
        beside = torch.tensor(self.betas[:-1], dtype=torch.float64)
        diagonal = torch.tensor(self.alphas, dtype=torch.float64)
        return torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)

    def top(self) -> tuple[float, float]:
        """The top Ritz value of ``A^T A`` and the norm of its residual."""
        values, vectors = torch.linalg.eigh(self.gram())
        return max(float(values[-1]), 0.0), self.coupling * abs(float(vectors[-1, -1]))

    @property
    def coupling(self) -> float:
        """Norm of the block of ``A^T A`` that ties the basis to the rest of the space."""
        return self.betas[-1]

    def uncoupled(self, rounding: float) -> bool:
        """Whether the basis spans an invariant subspace, as far as rounding lets it be told."""
        return self.coupling <= rounding * max(self.alphas)


def spectral_norm(
    linear_map: LinearMap,
    steps: int,
    generator: torch.Generator,
    *,
    frobenius: float | None = None,
    ceiling: float = math.inf,
    delta: float = 1e-3,
    tolerance: float = 1e-3,
    width: float = 0.03,
) -> NormBounds:
    """Largest singular value of ``linear_map`` in at most ``steps`` products with it.

    Stops early once the residual ``||A^T A v - theta v||`` is below ``tolerance * theta`` and the
    upper bound within ``width`` of the value, and at once where the map's size is used up (then the
    value is exact). A residual ``r`` means an error of at most ``r / 2``, and of about
    ``r^2`` over the relative gap below the top, so some 1e-5 for Gaussian matrices. The upper bound
    is the least of

    - Kuczynski and Wozniakowski (SIAM J. Matrix Anal. 13(4), 1992): a start uniform on the sphere
      gives ``sigma <= ritz / sqrt(1 - eps)``, ``eps = (ln(1.648 sqrt(n) / delta) / (2k - 1))^2``,
      with ``delta`` shared out over the looks taken; once the basis spans an invariant subspace to
      rounding, as for low rank or equal singular values,
      :func:`gradaudit.linalg.ceilings.likely_ceiling` instead;
    - the Frobenius norm, and the norm of the projection bordered by all the Frobenius mass that the
      basis has not seen: both certain, both only where ``frobenius`` is given;
    - ``ceiling``, a certain bound that the caller knows.

    ``generator`` is a CPU generator, so that a seed means the same on every device. Cost: one
    product each way a step, and reorthogonalisation of ``4 n k`` flops.
    """
    if linear_map.columns > linear_map.rows:
        linear_map = linear_map.transposed()
    n, rounding = linear_map.columns, linear_map.rounding
    if n == 0 or frobenius == 0.0:
        return NormBounds.exact(0.0)
    limit = min(steps, n, max(MAX_BASIS_ENTRIES // n, CHECK_EVERY))
    share = delta / math.ceil(limit / CHECK_EVERY)
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    spent = False
    for found in _projected(linear_map, start, limit):
        last = found.steps == limit
        spent = spent or found.uncoupled(rounding)
        if found.steps % CHECK_EVERY and not last and not spent:
            continue
        theta, residual = found.top()
        if found.steps == n:
            return NormBounds.exact(math.sqrt(theta), 4 * rounding, n)
        if residual > tolerance * theta and not last:
            continue
        likely = _likely(found, theta, n, share, spent=spent)
        bounds = _bounds(found, theta, rounding, likely, frobenius=frobenius, ceiling=ceiling)
        if last or not found.coupling or bounds.high <= (1 + width) * bounds.value:
            break
    return bounds


def norm_near(
    linear_map: LinearMap, start: Tensor, ceiling: float, steps: int, close: float
) -> NormBounds | None:
    """The norm by ``steps`` products each way from a ``start`` near the top right singular vector.

    The value is a lower bound whatever the start (of ``columns`` entries) is, and ``ceiling``, a
    certain upper bound, proves how good it is: ``None`` where the two do not come within ``close``
    of each other, and early where after half the steps they are not within thrice that.
    """
    rounding = linear_map.rounding
    for found in _projected(linear_map, start, steps) if bool(start.any()) else ():
        whole = found.steps == linear_map.columns
        done = whole or found.steps == steps or found.uncoupled(rounding)
        if not done and found.steps != steps // 2:
            continue
        value = math.sqrt(found.top()[0])
        if done and ceiling <= (1 + close) * value:
            high = max(ceiling, value) * (1 + rounding)
            return NormBounds(value, value * (1 - rounding), high, found.steps, certain=True)
        if done or ceiling > (1 + 3 * close) * value:
            break
    return None


def _projected(linear_map: LinearMap, start: Tensor, limit: int) -> Iterator[_Projection]:
    """The projection, one step further each time; to be left at the latest at zero coupling.

    The same object every time. Its vectors stay here.
    """
    n = linear_map.columns
    basis = torch.empty(limit, n, dtype=linear_map.dtype, device=linear_map.device)
    basis[0] = (start / start.norm()).to(basis)
    found = _Projection()
    for k in range(1, limit + 1):
        v = basis[k - 1]
        image = linear_map.twice(v)
        alpha = float(v @ image)
        residual = image - alpha * v
        if k > 1:
            residual -= found.betas[-1] * basis[k - 2]
        residual = _orthogonal(residual, basis[:k])
        beta = _norm(residual)
        found.alphas.append(alpha)
        found.betas.append(beta)
        yield found
        if k < limit:
            torch.div(residual, beta, out=basis[k])


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` less its part in the span of ``basis``' rows.

    Twice is enough (Kahan), and once where little was taken off (Daniel et al. 1976): rounding is
    relative to what was there.
    """
    for _ in range(2):
        before = _norm(vector)
        vector = vector - basis.T @ (basis @ vector)
        if _norm(vector) > 0.7 * before:
            break
    return vector


def _likely(found: _Projection, theta: float, n: int, delta: float, *, spent: bool) -> float:
    """An upper bound with probability ``1 - delta``, as :func:`spectral_norm` says."""
    if spent:
        ritz = torch.linalg.eigvalsh(found.gram()).tolist()
        return math.sqrt(max(likely_ceiling(ritz, found.betas, n, delta), 0.0))
    eps = (math.log(1.648 * math.sqrt(n) / delta) / (2 * found.steps - 1)) ** 2
    return math.sqrt(theta / (1 - eps)) if eps < 1 else math.inf


def _bounds(
    found: _Projection,
    theta: float,
    rounding: float,
    likely: float,
    *,
    frobenius: float | None,
    ceiling: float,
) -> NormBounds:
    """The bounds after ``found.steps`` steps, at the top Ritz value ``theta`` of ``A^T A``."""
    value = math.sqrt(theta)
    certain = ceiling
    if frobenius is not None:
        certain = min(ceiling, frobenius, _bordered(found, frobenius, rounding))
    return NormBounds(
        value,
        value * (1 - rounding),
        max(min(likely, certain), value) * (1 + rounding),
        found.steps,
        certain <= likely,
    )


def _bordered(found: _Projection, frobenius: float, rounding: float) -> float:
    """Norm of the worst map with this projection and this Frobenius norm.

    With ``V`` the basis, ``A^T A`` is ``[[T, R], [R^T, S]]``, ``R`` has the one entry ``coupling``,
    and the positive semidefinite ``S`` is at most its trace ``||A||_F^2 - tr T``.
    """
    gram, k = found.gram(), found.steps
    unseen = max(frobenius**2 - float(gram.trace()), 0.0) + rounding * frobenius**2
    worst = torch.zeros(k + 1, k + 1, dtype=torch.float64)
    worst[:k, :k] = gram
    worst[k - 1, k] = worst[k, k - 1] = found.coupling
    worst[k, k] = unseen
    return math.sqrt(float(torch.linalg.eigvalsh(worst)[-1]))
