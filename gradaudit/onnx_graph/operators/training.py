"""One step of an optimizer, as ONNX's preview of training has them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

_DOMAIN = "ai.onnx.preview.training"


def _by_variable(inputs: Sequence[Tensor], roles: int) -> list[tuple[Tensor, ...]]:
    """All values, then all gradients, ...: regrouped into one tuple a variable."""
    count, rest = divmod(len(inputs), roles)
    if rest:
        raise ValueError(f"expected {roles} tensors for each variable, found {len(inputs)}")
    return [tuple(inputs[i::count]) for i in range(count)]


def _by_role(results: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(each for role in zip(*results, strict=True) for each in role)


@operator("Adagrad", domain=_DOMAIN)
def adagrad(
    r: Tensor,
    t: Tensor,
    *inputs: Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
) -> tuple[Tensor, ...]:
    """``h' = h + g²``, ``x' = x - r / (1 + t decay) g / (√h' + ε)``."""
    rate = r / (1 + t * decay_factor)
    results = []
    for x, gradient, squares in _by_variable(inputs, 3):
        g = norm_coefficient * x + gradient
        total = squares + g * g
        results.append((x - rate * g / (torch.sqrt(total) + epsilon), total))
    return _by_role(results)


@operator("Adam", domain=_DOMAIN)
def adam(
    r: Tensor,
    t: Tensor,
    *inputs: Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Tensor, ...]:
    """``v' = αv + (1-α)g``, ``h' = βh + (1-β)g²``, ``x' = x - rₜ v' / (√h' + ε)``.

    The rate is ``rₜ = r √(1-βᵗ) / (1-αᵗ)``, and ``r`` itself at ``t = 0``.
    """
    count = t.to(r.dtype)
    rate = torch.where(t > 0, r * torch.sqrt(1 - beta**count) / (1 - alpha**count), r)
    results = []
    for x, gradient, mean, squares in _by_variable(inputs, 4):
        g = norm_coefficient * x + gradient
        v = alpha * mean + (1 - alpha) * g
        h = beta * squares + (1 - beta) * g * g
        after = x - rate * v / (torch.sqrt(h) + epsilon)
        results.append(((1 - norm_coefficient_post) * after, v, h))
    return _by_role(results)


@operator("Momentum", domain=_DOMAIN)
def momentum(
    r: Tensor,
    t: Tensor,
    *inputs: Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    """``v' = αv + βg``, ``x' = x - r v'``, or ``x - r (g + αv')`` in the mode "nesterov"."""
    if mode not in ("standard", "nesterov"):
        raise ValueError(f"expected the mode standard or nesterov, found {mode!r}")
    share = torch.where(t > 0, beta, 1.0).to(r.dtype)
    results = []
    for x, gradient, velocity in _by_variable(inputs, 3):
        g = norm_coefficient * x + gradient
        v = alpha * velocity + share * g
        results.append((x - r * (g + alpha * v if mode == "nesterov" else v), v))
    return _by_role(results)
