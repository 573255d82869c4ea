"""The functions that gates, or fused layers, end with, by ONNX's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def _affine(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def _scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


# By lower-case name: the function, and the documented alpha and beta of those that have them.
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "relu": (torch.relu, ()),
    "tanh": (torch.tanh, ()),
    "sigmoid": (torch.sigmoid, ()),
    "softsign": (F.softsign, ()),
    "softplus": (F.softplus, ()),
    "leakyrelu": (F.leaky_relu, (0.01,)),
    "thresholdedrelu": (_thresholded_relu, (1.0,)),
    "elu": (F.elu, (1.0,)),
    "affine": (_affine, (1.0, 0.0)),
    "scaledtanh": (_scaled_tanh, (1.0, 1.0)),
    "hardsigmoid": (_hard_sigmoid, (0.2, 0.5)),
    "clip": (torch.clamp, (-torch.inf, torch.inf)),
}


def activations(
    names: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    clip: float | None = None,
) -> list[Activation]:
    """The named functions of one tensor, clipped to ``[-clip, clip]`` before them.

    Each takes its alpha and beta, where it has one, from the front of the lists.
    """
    alpha, beta = iter(alphas or ()), iter(betas or ())
    made: list[Activation] = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise ValueError(f"expected an activation of {sorted(_FUNCTIONS)}, found {name!r}")
        function, defaults = _FUNCTIONS[name.lower()]
        values = [next(own, d) for own, d in zip((alpha, beta), defaults, strict=False)]
        made.append(_clipped(function, values, clip))
    return made


def activation(name: str, values: Sequence[float] = ()) -> Activation:
    """One function; ``values`` are its alpha and beta."""
    return activations([name], values[:1], values[1:2])[0]


def _clipped(
    function: Callable[..., Tensor], values: Sequence[float], clip: float | None
) -> Activation:
    if clip is None:
        return lambda x: function(x, *values)
    bound = partial(torch.clamp, min=-clip, max=clip)
    return lambda x: function(bound(x), *values)
