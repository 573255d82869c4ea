"""Elementwise functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._constants import number
from gradaudit.onnx_graph.operators._wrapped import of_one
from gradaudit.onnx_graph.registry import operator

_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


for _name, _function in _OF_ONE.items():
    operator(_name)(of_one(_function))


@operator("Erf")
def erf(x: Tensor) -> Tensor:
    """``2/√π ∫₀ˣ exp(-t²) dt``."""
    return torch.erf(x).to(x.dtype)


@operator("Identity")
def identity(x: Any) -> Any:
    """The value itself, whatever it is."""
    return x


@operator("IsNaN", since=9)
def is_nan(x: Tensor) -> Tensor:
    """Where ``x`` is not a number."""
    return torch.isnan(x)


@operator("IsInf", since=10)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Where ``x`` is infinite, of the signs asked for."""
    x = x.float() if x.element_size() == 1 else x
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_positive:
        return torch.isposinf(x)
    return torch.isneginf(x) if detect_negative else torch.zeros_like(x, dtype=torch.bool)


@operator("Clip", since=6)
def clip_to_attributes(
    x: Tensor,
    *,
    min: float | None = None,  # noqa: A002
    max: float | None = None,  # noqa: A002
) -> Tensor:
    """``min(max(x, low), high)``; the documented defaults, the type's range, bound nothing."""
    largest = torch.finfo(x.dtype).max
    low = None if min is None or min <= -largest else min
    high = None if max is None or max >= largest else max
    return _clipped(x, low, high)


@operator("Clip", since=11)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """``min(max(x, low), high)``, so ``high`` everywhere if ``low > high``."""
    for bound in (low, high):
        if bound is not None and bound.numel() != 1:
            raise ValueError(f"a bound should be one number, not of shape {list(bound.shape)}")
    bounds = [None if each is None else number(each) for each in (low, high)]
    if any(n is None and t is not None for n, t in zip(bounds, (low, high), strict=True)):
        low, high = (None if each is None else each.reshape(()) for each in (low, high))
        return torch.clamp(x, low, high)
    return _clipped(x, *bounds)


def _clipped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is None and high is None:
        return x
    # What activations are exported as gets their gradient at the bounds, zero, and their speed.
    if (low, high) == (0, 6):
        return F.relu6(x)
    if (low, high) == (-1, 1) and x.is_floating_point():
        return F.hardtanh(x)
    return torch.clamp(x, low, high)
