"""Every attention head as two maps (Elhage et al. 2021): what it compares, and what it moves.

A head scores a pair of tokens by ``x^T W_Q^T W_K y / sqrt(d)`` and moves ``W_O W_V y``. Both are
products through ``d``, the head's width, and their norms bound how fast scores and outputs change
with the tokens; softmax attention itself has no global Lipschitz constant (Kim et al. 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gradaudit.linalg.products import gram, product_norm
from gradaudit.probes.attention_sites import Projections, find_projections
from gradaudit.probes.recurrent_gates import bounds_estimate
from gradaudit.records import Estimate, HeadRow, NotMeasured
from gradaudit.telling import listed

_BOTH, _QK, _OV = "QK and OV norms per head", "QK norm per head", "OV norm per head"
_OVERFLOW = "the norm overflows float64"


def measure_heads(model: nn.Module) -> tuple[tuple[HeadRow, ...], tuple[NotMeasured, ...]]:
    """One row per head of every attention module of ``model``, which is only read; and what lacks.

    ``qk`` is ``||W_Q^T W_K|| / sqrt(d)``, ``ov`` is ``||W_O W_V||``, both exact to rounding and
    without biases and position codes. A query head of grouped-query attention meets the key and
    value head of its group. Cost: ``2 d`` flops per entry of the weights and a ``d x d``
    eigenproblem per head and product; no randomness.
    """
    rows: list[HeadRow] = []
    missing: dict[tuple[str, str], list[str]] = {}
    with torch.no_grad():
        for path, found in find_projections(model):
            heads, gaps = _measure(path, found)
            rows.extend(heads)
            for gap in gaps:
                missing.setdefault(gap, []).append(path or "the model")
    return tuple(rows), tuple(
        NotMeasured(what, listed(paths), why) for (what, why), paths in missing.items()
    )


def _measure(path: str, found: Projections | str) -> tuple[list[HeadRow], list[tuple[str, str]]]:
    """The rows of one module, and what is not measured of it and why."""
    if isinstance(found, str):
        return [], [(_BOTH, found)]
    weights = (found.query, found.key, found.value, found.output)
    if not all(bool(torch.isfinite(w).all()) for w in weights if w is not None):
        return [], [(_BOTH, "its weights have entries that are NaN or infinite")]
    gaps = [(_QK, found.no_qk)] if found.no_qk else []
    if found.output is None:
        gaps.append((_OV, "its output projection was not found"))
    scores = [None] * found.heads if found.no_qk else _scores(found)
    moves = _moves(found)
    if not found.no_qk and None in scores:
        gaps.append((_QK, _OVERFLOW))
    if found.output is not None and None in moves:
        gaps.append((_OV, _OVERFLOW))
    both = enumerate(zip(scores, moves, strict=True))
    return [HeadRow(path, head, qk, ov) for head, (qk, ov) in both], gaps


def _scores(found: Projections) -> list[Estimate | None]:
    """Norm of each head's score, as a bilinear form of the two tokens."""
    queries, keys = _grams(found.query, found.heads), _grams(found.key, found.key_heads)
    shared, side = found.heads // found.key_heads, found.query.shape[1] + found.key.shape[1]
    root = math.sqrt(len(found.query) // found.heads)
    norms = [product_norm(q, keys[head // shared], side) for head, q in enumerate(queries)]
    return [bounds_estimate(norm.scaled(1 / root)) for norm in norms]


def _moves(found: Projections) -> list[Estimate | None]:
    """Norm of each head's map from a token to what it adds to the output."""
    if found.output is None:
        return [None] * found.heads
    values, outputs = _grams(found.value, found.key_heads), _grams(found.output.T, found.heads)
    shared, side = found.heads // found.key_heads, len(found.output) + found.value.shape[1]
    norms = [product_norm(o, values[head // shared], side) for head, o in enumerate(outputs)]
    return [bounds_estimate(norm) for norm in norms]


def _grams(matrix: Tensor, heads: int) -> list[tuple[Tensor, float]]:
    """Of each head's block of rows."""
    return [gram(block) for block in matrix.chunk(heads)]
