"""Norms of matrices that are held in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gradaudit.linalg.golub_kahan import LinearMap, NormBounds, spectral_norm

EXACT_SIDE = 512  # the shorter side up to which all singular values are computed ...
EXACT_WORK = 2e8  # ... where rows * columns * shorter side, about 0.1 s, allows it
_PIECE = 2**18  # entries that are turned to float64 at a time


def pieces(matrix: Tensor) -> Iterator[Tensor]:
    """``matrix`` (rows, columns) in float64, some rows at a time to spare memory; to be read only:
    a float64 matrix is not copied.
    """
    rows = max(_PIECE // max(matrix.shape[1], 1), 1)
    return (part.double() for part in matrix.detach().split(rows))


def frobenius_norm(tensor: Tensor) -> float:
    """Root of the sum of squares of all finite entries, accumulated in float64."""
    matrix = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)
    norm = math.hypot(*(float(torch.linalg.vector_norm(part)) for part in pieces(matrix)))
    if 1e-150 < norm < 1e150:
        return norm
    matrix, scale = _tame(matrix)  # float64's squares leave its range as well
    return norm if scale in (0.0, 1.0) else frobenius_norm(matrix) * scale


def largest_row_norm(matrix: Tensor) -> float:
    """Largest Euclidean norm of a row of ``matrix`` (rows, columns), to float64's rounding.

    Found in the matrix's own precision, then computed again for the rows that come near.
    """
    matrix, scale = _tame(matrix)
    norms = torch.linalg.vector_norm(matrix, dim=1)
    near = matrix[norms >= norms.max() * (1 - 1e-4)]
    return scale * max(float(torch.linalg.vector_norm(part, dim=1).max()) for part in pieces(near))


def dense_norm(
    matrix: Tensor,
    steps: int,
    generator: torch.Generator,
    *,
    delta: float = 1e-3,
    frobenius: float | None = None,
) -> NormBounds:
    """Largest singular value of a finite ``matrix`` (rows, columns).

    ``frobenius`` is its :func:`frobenius_norm`, where the caller has it already. Exact in float64
    (eigenvalues of the Gram matrix of the shorter side) where that is cheap, else by
    :func:`gradaudit.linalg.golub_kahan.spectral_norm` in at most ``steps`` steps, in the matrix's
    own precision but no less than float32.
    """
    matrix, scale = _tame(matrix, frobenius)
    if scale == 0.0 or matrix.numel() == 0:
        return NormBounds.exact(0.0)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    if matrix.shape[0] <= EXACT_SIDE and matrix.numel() * matrix.shape[0] <= EXACT_WORK:
        return _exact(matrix).scaled(scale)
    bounds = spectral_norm(
        matrix_map(matrix),
        steps,
        generator,
        frobenius=frobenius if frobenius and scale == 1.0 else frobenius_norm(matrix),
        delta=delta,
    )
    return bounds.scaled(scale)


def matrix_map(matrix: Tensor) -> LinearMap:
    """``matrix`` (rows, columns), floating, as a linear map of its own precision."""
    adjoint, (rows, columns) = matrix.T, matrix.shape
    return LinearMap(
        lambda x: matrix @ x, lambda y: adjoint @ y, rows, columns, matrix.dtype, matrix.device
    )


def spectral_radius(matrix: Tensor) -> float:
    """Largest modulus of the eigenvalues of a finite square ``matrix``; all of them, in float64."""
    matrix, scale = _tame(matrix)
    if scale == 0.0 or matrix.numel() == 0:
        return 0.0
    return float(torch.linalg.eigvals(matrix.double().cpu()).abs().max()) * scale


def _exact(matrix: Tensor) -> NormBounds:
    """All eigenvalues of ``M M^T`` in float64; ``matrix`` is wide or square."""
    wide = matrix.double()
    top = float(torch.linalg.eigvalsh(wide @ wide.T)[-1])
    rounding = 4 * torch.finfo(torch.float64).eps * sum(matrix.shape)
    return NormBounds.exact(math.sqrt(max(top, 0.0)), rounding)


def _real(tensor: Tensor) -> Tensor:
    """``tensor`` without its graph and in float32 at least."""
    tensor = tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _tame(matrix: Tensor, frobenius: float | None = None) -> tuple[Tensor, float]:
    """``matrix`` as a number times a matrix whose squares float32 can hold.

    Its Frobenius norm, where known, bounds the largest entry from both sides.
    """
    matrix = _real(matrix)
    if matrix.numel() == 0:
        return matrix, 0.0
    if frobenius and 1e-12 * math.sqrt(matrix.numel()) < frobenius < 1e12:
        return matrix, 1.0
    low, high = (float(x) for x in torch.aminmax(matrix))
    largest = max(-low, high)
    if largest == 0.0 or 1e-12 < largest < 1e12:
        return matrix, float(largest > 0)
    return matrix.double() / largest, largest
