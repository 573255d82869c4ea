"""Norms of products of two matrices through their short common side."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradaudit.linalg.golub_kahan import NormBounds


def gram(factor: Tensor) -> tuple[Tensor, float]:
    """``(F F^T / s^2, s)`` of ``factor`` (d, n), finite, in float64; ``s`` is its largest entry."""
    wide = factor.detach().to("cpu", torch.float64)
    scale = float(wide.abs().max()) if wide.numel() else 0.0
    if scale > 0:
        wide = wide / scale
    return wide @ wide.T, scale


def product_norm(left: tuple[Tensor, float], right: tuple[Tensor, float], side: int) -> NormBounds:
    """Largest singular value of ``L^T R``, ``L`` (d, m) and ``R`` (d, n), from their two Grams.

    ``||L^T R||^2`` is the top eigenvalue of ``C^T (R R^T) C`` for any ``C C^T = L L^T``: a Cholesky
    factor, or the symmetric root where ``L`` lacks rank. Nothing larger than ``d x d`` is formed.
    ``side`` is ``m + n``, for the rounding: relative to ``||L|| ||R||``, since squares are taken.
    """
    root, fault = torch.linalg.cholesky_ex(left[0])
    if int(fault):
        values, vectors = torch.linalg.eigh(left[0])
        root = vectors * values.clamp(min=0).sqrt()
    core = root.T @ right[0] @ root
    top = max(float(torch.linalg.eigvalsh(core)[-1]), 0.0)
    scale = left[1] * right[1]
    # Errors of the Grams are relative to their own norms, and a product may be far smaller.
    reach = float(left[0].trace()) * float(right[0].trace())
    error = torch.finfo(torch.float64).eps * (side + 4 * left[0].shape[0]) * reach
    low, high = math.sqrt(max(top - error, 0.0)), math.sqrt(top + error)
    return NormBounds(math.sqrt(top), low, high, certain=True).scaled(scale)
