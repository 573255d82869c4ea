"""The blocks of one weight that are linear maps of their own: gates, and query, key and value.

torch stacks the gates of a recurrent weight by rows (LSTM: input, forget, cell, output; GRU: reset,
update, new), and attention's three projections in ``in_proj_weight``. A gate can be large or small
alone, and its squashing bounds what it does, so each is measured by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gradaudit.linalg.dense import dense_norm, frobenius_norm, spectral_radius
from gradaudit.linalg.golub_kahan import NormBounds
from gradaudit.records import Estimate, NotMeasured, WeightPart

UNIT = "spectral norm"
GATES = {1: ("hidden",), 3: ("reset", "update", "new"), 4: ("input", "forget", "cell", "output")}
PROJECTIONS = ("query", "key", "value")
_HIDDEN = re.compile(r"weight_(ih|hh)(?=_l\d|_|$)")
_MAX_RADIUS_SIDE = 1024  # all eigenvalues of a larger matrix take seconds


def part_names(
    leaf: str, siblings: Mapping[str, Tensor], module: nn.Module | None
) -> tuple[str, ...]:
    """Names of the row blocks of the weight ``leaf`` among its module's own tensors, in order.

    Empty where it is no stack. The number of gates is that of ``module``'s type or, without one,
    what the shape of the hidden weight leaves no doubt about; ``module`` of the user's own may
    order its gates otherwise, so they are only numbered.
    """
    rows, columns = siblings[leaf].shape
    if leaf.endswith("in_proj_weight"):
        return PROJECTIONS if rows == 3 * columns else ()
    if not _HIDDEN.search(leaf):
        return ()
    count = _gate_count(leaf, siblings, module)
    if count not in GATES or rows % count:
        return ()
    torchs_own = module is None or isinstance(module, nn.RNNBase | nn.RNNCellBase)
    return GATES[count] if torchs_own else tuple(f"gate {i + 1}" for i in range(count))


def _gate_count(leaf: str, siblings: Mapping[str, Tensor], module: nn.Module | None) -> int:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return 4
    if isinstance(module, nn.GRU | nn.GRUCell):
        return 3
    if isinstance(module, nn.RNN | nn.RNNCell):
        return 1
    if _HIDDEN.sub("weight_hr", leaf) in siblings:  # only an LSTM has a projection
        return 4
    hidden = siblings.get(_HIDDEN.sub("weight_hh", leaf))
    if hidden is None or hidden.ndim != 2 or hidden.shape[0] % max(hidden.shape[1], 1):
        return 0
    return hidden.shape[0] // max(hidden.shape[1], 1)


def measure_parts(
    parameter: str,
    matrix: Tensor,
    names: tuple[str, ...],
    whole: NormBounds,
    *,
    recurrent: bool,
    steps: int,
    generator: torch.Generator,
) -> tuple[tuple[WeightPart, ...], tuple[NotMeasured, ...]]:
    """One row per block of ``matrix`` (rows, columns), finite, in as many equal blocks of rows.

    ``whole`` is the norm of all of it; ``recurrent``: it maps the state to the state. Spectral
    radii are of square hidden-to-hidden blocks; above a side of 1,024 they are not measured, for
    all eigenvalues are needed.
    """
    if not names:
        return (), ()
    missing: tuple[NotMeasured, ...] = ()
    side = matrix.shape[1]
    square = recurrent and matrix.shape[0] == len(names) * side
    if square and side > _MAX_RADIUS_SIDE:
        why = f"all eigenvalues of {side} x {side} cost too much (up to {_MAX_RADIUS_SIDE})"
        missing, square = (NotMeasured("spectral radius", parameter, why),), False
    elif recurrent and not square:
        why = "its blocks are not square: the state comes back to it through a projection"
        missing = (NotMeasured("spectral radius", parameter, why),)
    parts = []
    for name, block in zip(names, matrix.chunk(len(names)), strict=True):
        frobenius = frobenius_norm(block)
        bounds = whole
        if len(names) > 1:
            bounds = dense_norm(block, steps, generator, frobenius=frobenius)
        radius = spectral_radius(block) if square else None
        parts.append(_part(name, bounds, frobenius, radius))
    return tuple(parts), missing


def _part(name: str, bounds: NormBounds, frobenius: float, radius: float | None) -> WeightPart:
    return WeightPart(
        name,
        bounds_estimate(bounds),
        stable_rank(frobenius, bounds.value),
        radius if radius is not None and math.isfinite(radius) else None,
    )


def bounds_estimate(bounds: NormBounds) -> Estimate | None:
    """``bounds`` as a record; ``None`` where the norm itself overflows float64."""
    if not math.isfinite(bounds.value):
        return None
    high = bounds.high if math.isfinite(bounds.high) else None
    return Estimate(bounds.value, bounds.low, high, UNIT)


def stable_rank(frobenius: float, norm: float) -> float | None:
    """``||W||_F^2 / sigma_1^2``, 0 for a zero matrix; ``None`` where it overflows."""
    if norm == 0:
        return 0.0
    ratio = frobenius / norm
    return ratio * ratio if math.isfinite(ratio * ratio) else None
