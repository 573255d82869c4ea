"""Products of matrices, and what else linear algebra has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator


@operator("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """``A B``, batched as numpy's."""
    return torch.matmul(a, b)


@operator("Gemm", since=7)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``α A B + β C``."""
    if a.dim() != 2 or b.dim() != 2:
        raise ValueError(f"A and B should be matrices, not of {a.dim()} and {b.dim()} dimensions")
    rows = a.T if transA else a
    weight = b if transB else b.T
    bias = c if c is None or beta == 1 else beta * c
    if alpha == 1 and (bias is None or bias.shape == weight.shape[:1]):
        return F.linear(rows, weight, bias)
    product = F.linear(rows, weight)
    product = product if alpha == 1 else alpha * product
    result = product if bias is None else product + bias
    return result if a.is_floating_point() else result.to(a.dtype)


@operator("MatMulInteger", since=10)
def matmul_integer(
    a: Tensor,
    b: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
) -> Tensor:
    """``(A - a₀)(B - b₀)`` in int32; ``a₀`` may be one per row and ``b₀`` one per column."""
    # float64 is exact here, and torch multiplies integers slowly, on CUDA not at all
    left, right = a.double(), b.double()
    if a_zero_point is not None:
        per_row = a_zero_point.dim() == 1 and a.dim() > 1
        left = left - (a_zero_point.unsqueeze(-1) if per_row else a_zero_point)
    if b_zero_point is not None:
        right = right - b_zero_point
    return torch.matmul(left, right).to(torch.int64).to(torch.int32)


@operator("Einsum", since=12)
def einsum(*tensors: Tensor, equation: str) -> Tensor:
    """Einstein's summation convention."""
    return torch.einsum(equation, *tensors)


@operator("Det", since=11)
def det(x: Tensor) -> Tensor:
    """The determinant of each matrix; half formats are computed in float32."""
    wide = x.float() if x.element_size() < 4 else x
    return torch.linalg.det(wide).to(x.dtype)


@operator("Trilu", since=14)
def triangle(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """The entries on and above the ``k``-th diagonal, or on and below it; 0 elsewhere."""
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)
