"""Activation functions, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._wrapped import of_one
from gradaudit.onnx_graph.registry import operator

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softsign": F.softsign,
}
_SELU = (1.0507010221481323, 1.6732631921768188)  # gamma and alpha, as float32 has them


for _name, _function in _PLAIN.items():
    operator(_name)(of_one(_function))


@operator("LeakyRelu", since=6)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """``x`` where positive, elsewhere ``α x``."""
    return F.leaky_relu(x, alpha)


@operator("PRelu", since=7)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where positive, elsewhere ``slope x``."""
    channels = x.shape[1] if x.dim() > 1 else 1
    per_channel = slope.dim() == x.dim() - 1 and slope.shape[:1].numel() == slope.numel()
    if x.is_floating_point() and (
        slope.numel() == 1 or (per_channel and slope.numel() == channels)
    ):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@operator("Elu", since=6)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` where positive, elsewhere ``α (eˣ - 1)``."""
    return F.elu(x, alpha)


@operator("Selu", since=6)
def selu(x: Tensor, *, alpha: float = _SELU[1], gamma: float = _SELU[0]) -> Tensor:
    """``γ x`` where positive, elsewhere ``γ α (eˣ - 1)``."""
    if math.isclose(alpha, _SELU[1], rel_tol=1e-6) and math.isclose(gamma, _SELU[0], rel_tol=1e-6):
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@operator("Celu", since=12)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``max(x, 0) + min(0, α (exp(x/α) - 1))``."""
    return F.celu(x, alpha)


@operator("Gelu", since=20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """``x Φ(x)``, of which "tanh" takes Hendrycks and Gimpel's approximation."""
    return F.gelu(x, approximate=approximate)


@operator("HardSigmoid", since=6)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """``α x + β``, cut to [0, 1]."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return F.hardtanh(alpha * x + beta, 0.0, 1.0)


@operator("Softplus")
def softplus(x: Tensor) -> Tensor:
    """``log(1 + eˣ)``."""
    # torch's own threshold of 20 shows in float64; above 40 the sum with 1 is the exponential
    return F.softplus(x, threshold=40.0)


@operator("Swish", since=24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x σ(α x)``."""
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("SwiGLU", since=28)
def swiglu(gate: Tensor, value: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``gate σ(α gate) value``."""
    if gate.shape != value.shape:
        raise ValueError(
            f"gate and value should have one shape, not {list(gate.shape)} and {list(value.shape)}"
        )
    return swish(gate, alpha=alpha) * value


@operator("ThresholdedRelu", since=10)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` where above ``α``, elsewhere 0."""
    return F.threshold(x, alpha, 0.0)


@operator("Shrink", since=9)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """``x`` moved by ``bias`` towards 0 where ``|x| > λ``, elsewhere 0."""
    if x.is_floating_point() and bias == 0:
        return F.hardshrink(x, lambd)
    if x.is_floating_point() and bias == lambd >= 0:
        return F.softshrink(x, lambd)
    outside = torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0))
    return outside.to(x.dtype)


Along = Callable[[Tensor, int], Tensor]


def _hard_max(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, torch.argmax(x, axis, keepdim=True), 1)


def _along_axis(function: Along) -> Callable[..., Tensor]:
    def apply(x: Tensor, *, axis: int = -1) -> Tensor:
        return function(x, axis)

    return apply


def _from_axis_on(function: Along) -> Callable[..., Tensor]:
    """Over all dimensions from the axis on together, as before opset 13."""

    def apply(x: Tensor, *, axis: int = 1) -> Tensor:
        if axis in (-1, x.dim() - 1):
            return function(x, -1)
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"axis {axis} of a tensor of {x.dim()} dimensions")
        return function(x.flatten(axis), -1).reshape(x.shape)

    return apply


_OVER_AN_AXIS: dict[str, Along] = {
    "Hardmax": _hard_max,
    "LogSoftmax": F.log_softmax,
    "Softmax": F.softmax,
}
for _name, _along in _OVER_AN_AXIS.items():
    operator(_name)(_from_axis_on(_along))
    operator(_name, since=13)(_along_axis(_along))
