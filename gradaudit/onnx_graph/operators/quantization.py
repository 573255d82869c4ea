"""To quantized integers and back."""

from __future__ import annotations

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._straight_through import (
    as_float8,
    held,
    is_float8,
    quantized,
    stored_type,
)
from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import DTYPES

_PAST_ROUNDING = "straight-through past the rounding"


@operator("QuantizeLinear", since=10, gradient=_PAST_ROUNDING)
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """``saturate(round(x / scale) + zero)``; scale and zero by tensor, axis or block."""
    kind = torch.uint8 if zero is None else stored_type(zero)
    if output_dtype:
        kind = _type(output_dtype, "output_dtype")
    within = _type(precision, "precision") if precision else scale.dtype
    ratio = x.to(within) / _spread(scale, x, axis, block_size).to(within)
    offset = None if zero is None else _spread(zero, x, axis, block_size)
    if is_float8(kind):
        return as_float8(ratio, offset, kind, saturate=bool(saturate))
    return quantized(ratio, offset, kind)


@operator("DequantizeLinear", since=10, gradient=_PAST_ROUNDING)
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """``(x - zero) * scale``; scale and zero by tensor, axis or block."""
    kind = _type(output_dtype, "output_dtype") if output_dtype else scale.dtype
    values = held(x, torch.promote_types(kind, torch.float32))
    if zero is not None:
        values = values - _spread(zero, x, axis, block_size).to(values.dtype)
    return values.to(kind) * _spread(scale, x, axis, block_size).to(kind)


@operator("DynamicQuantizeLinear", since=11, gradient=_PAST_ROUNDING)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X as uint8 with the scale and zero point that its range and 0 ask for; those, too."""
    low, high = x.amin().clamp_max(0), x.amax().clamp_min(0)
    width = high - low
    scale = torch.where(width == 0, torch.ones_like(width), width) / 255
    zero = quantized(-low / scale, None, torch.uint8)
    return quantized(x / scale, zero, torch.uint8), scale, zero


def _type(number: int, attribute: str) -> torch.dtype:
    if number not in DTYPES:
        raise ValueError(f"expected {attribute} to be a type that torch has, found {number}")
    return DTYPES[number]


def _spread(value: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point as it lies on ``x``."""
    if value.numel() == 1:
        return value.reshape(())
    if block_size:
        wide = value.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    else:
        axis = axis % x.dim() if x.dim() > 1 else 0
        wide = value.reshape(-1, *[1] * (x.dim() - 1 - axis)) if value.dim() == 1 else value
    try:
        fits = torch.broadcast_shapes(wide.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        found = f"{list(value.shape)} for {list(x.shape)}"
        raise ValueError(f"expected a scale by tensor, axis {axis} or block, found shape {found}")
    return wide
