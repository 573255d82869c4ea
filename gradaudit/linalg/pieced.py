"""A matrix in half or less precision as a linear map, turned to float32 piece by piece.

A whole copy in float32 would take two to four times the matrix's memory. Pieces that stay in the
cache cost little more than reading the matrix, half of float32's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gradaudit.linalg.golub_kahan import LinearMap

_PIECE = 2**19  # entries at a time and thread: 2 MiB of float32


def pieced_map(matrix: Tensor, scale: float = 1.0) -> LinearMap:
    """``matrix`` (rows, columns) over ``scale``, in float32, or float64 if it is or has a scale."""
    return _Pieced(matrix.detach(), scale).as_map()


class _Pieced:
    """Pieces are cut across the axis along which entries lie apart, so that each is contiguous."""

    def __init__(self, matrix: Tensor, scale: float) -> None:
        self._turned = matrix.stride(0) < matrix.stride(1)
        self._matrix = matrix.T if self._turned else matrix
        self._scale = scale
        # a scale may lie outside float32's range
        exact = matrix.dtype is torch.float64 or scale != 1.0
        self._dtype = torch.float64 if exact else torch.float32
        self._rows = max(_PIECE * torch.get_num_threads() // max(self._matrix.shape[1], 1), 1)
        shape = (min(self._rows, len(self._matrix)), self._matrix.shape[1])
        self._buffer = torch.empty(shape, dtype=self._dtype, device=matrix.device)

    def as_map(self) -> LinearMap:
        rows, columns = self._matrix.shape
        found = LinearMap(
            self._forward,
            self._adjoint,
            rows,
            columns,
            self._dtype,
            self._matrix.device,
            normal=self._normal,
        )
        return found.transposed() if self._turned else found

    def _pieces(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(self._matrix), self._rows):
            part = self._matrix[start : start + self._rows]
            piece = self._buffer[: len(part)].copy_(part)
            yield start, piece if self._scale == 1.0 else piece.div_(self._scale)

    def _forward(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(self._matrix))
        for start, piece in self._pieces():
            torch.mv(piece, x, out=out[start : start + len(piece)])
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = y.new_zeros(self._matrix.shape[1])
        for start, piece in self._pieces():
            out.addmv_(piece.T, y[start : start + len(piece)])
        return out

    def _normal(self, x: Tensor) -> Tensor:
        """``A^T A x`` in one go through the matrix."""
        out = torch.zeros_like(x)
        for _, piece in self._pieces():
            out.addmv_(piece.T, piece @ x)
        return out
