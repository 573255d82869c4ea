"""Norms of matrices that are held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gradaudit.linalg.golub_kahan import LinearMap, NormBounds, spectral_norm
from gradaudit.linalg.pieced import pieced_map

EXACT_SIDE = 512  # the shorter side up to which all singular values are computed ...
EXACT_WORK = 2e8  # ... where rows * columns * shorter side, about 0.1 s, allows it
_PIECE = 2**18  # entries that are turned to float64 at a time


def pieces(matrix: Tensor, scale: float = 1.0) -> Iterator[Tensor]:
    """``matrix`` (rows, columns) over ``scale`` in float64, some rows at a time to spare memory; to
    be read only: a float64 matrix that is not scaled is not copied.
    """
    rows = max(_PIECE // max(matrix.shape[1], 1), 1)
    for part in matrix.detach().split(rows):
        yield part.double() if scale == 1.0 else part.double() / scale


def frobenius_norm(tensor: Tensor) -> float:
    """Root of the sum of squares of all entries, finite numbers, accumulated in float64."""
    flat = tensor.detach().reshape(-1, 1)
    norm = _norm(flat, 1.0)
    if 1e-150 < norm < 1e150:
        return norm
    scale = _largest(flat)  # float64's squares leave its range as well
    return _norm(flat, scale) * scale if scale else 0.0


def _norm(flat: Tensor, scale: float) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(part)) for part in pieces(flat, scale)))


def _largest(matrix: Tensor) -> float:
    """The largest modulus of an entry."""
    if matrix.numel() == 0:
        return 0.0
    # as numbers at once: small tensors that stay would keep the heap from shrinking
    ends = ([float(end) for end in torch.aminmax(part)] for part in pieces(matrix))
    return max(max(-low, high) for low, high in ends)


def largest_row_norm(matrix: Tensor, frobenius: float | None = None) -> float:
    """Largest Euclidean norm of a row of ``matrix`` (rows, columns), to float64's rounding.

    ``frobenius`` is its :func:`frobenius_norm`, where the caller has it already.
    """
    scale = _scale(matrix, frobenius)
    if scale == 0.0:
        return 0.0
    parts = pieces(matrix, scale)
    return scale * max(float(torch.linalg.vector_norm(part, dim=1).max()) for part in parts)


def dense_norm(
    matrix: Tensor,
    steps: int,
    generator: torch.Generator,
    *,
    delta: float = 1e-3,
    frobenius: float | None = None,
) -> NormBounds:
    """Largest singular value of a finite ``matrix`` (rows, columns) of any floating type.

    ``frobenius`` is its :func:`frobenius_norm`, where the caller has it already. Exact in float64
    (eigenvalues of the Gram matrix of the shorter side) where that is cheap, else by
    :func:`gradaudit.linalg.golub_kahan.spectral_norm` in at most ``steps`` steps, in the matrix's
    own precision but no less than float32. The matrix is never copied as a whole.
    """
    matrix = matrix.detach()
    scale = 0.0 if frobenius == 0.0 else _scale(matrix, frobenius)
    if scale == 0.0:
        return NormBounds.exact(0.0)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    if matrix.shape[0] <= EXACT_SIDE and matrix.numel() * matrix.shape[0] <= EXACT_WORK:
        return _exact(matrix, scale).scaled(scale)
    if scale != 1.0 or not frobenius:
        frobenius = _norm(matrix, scale)
    whole = scale == 1.0 and matrix.dtype in (torch.float32, torch.float64)
    linear_map = matrix_map(matrix) if whole else pieced_map(matrix, scale)
    return spectral_norm(linear_map, steps, generator, frobenius=frobenius, delta=delta).scaled(
        scale
    )


def matrix_map(matrix: Tensor) -> LinearMap:
    """``matrix`` (rows, columns), float32 or float64, as a linear map of its own precision."""
    adjoint, (rows, columns) = matrix.T, matrix.shape
    return LinearMap(
        lambda x: matrix @ x, lambda y: adjoint @ y, rows, columns, matrix.dtype, matrix.device
    )


def spectral_radius(matrix: Tensor) -> float:
    """Largest modulus of the eigenvalues of a finite square ``matrix``; all of them, in float64."""
    scale = _scale(matrix)
    if scale == 0.0:
        return 0.0
    tame = matrix.detach().double().cpu() / scale
    return float(torch.linalg.eigvals(tame).abs().max()) * scale


def _exact(matrix: Tensor, scale: float) -> NormBounds:
    """All eigenvalues of ``M M^T`` in float64; ``matrix`` is wide or square."""
    rows, columns = matrix.shape
    gram = torch.zeros(rows, rows, dtype=torch.float64, device=matrix.device)
    for part in matrix.split(max(_PIECE // rows, 1), dim=1):
        wide = part.double() / scale
        gram += wide @ wide.T
    top = float(torch.linalg.eigvalsh(gram)[-1])
    rounding = 4 * torch.finfo(torch.float64).eps * (rows + columns)
    return NormBounds.exact(math.sqrt(max(top, 0.0)), rounding)


def _scale(matrix: Tensor, frobenius: float | None = None) -> float:
    """A number over which float32 can hold the squares of ``matrix``' entries: 1 if it can anyway,
    0 for zeros.

    The Frobenius norm, where known, bounds the largest entry from both sides.
    """
    if matrix.numel() == 0:
        return 0.0
    if frobenius and 1e-12 * math.sqrt(matrix.numel()) < frobenius < 1e12:
        return 1.0
    largest = _largest(matrix)
    return 1.0 if 1e-12 < largest < 1e12 else largest
