"""Convolutions and products of quantized integers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._convolution import convolved
from gradaudit.onnx_graph.operators._straight_through import held, holding, quantized, stored_type
from gradaudit.onnx_graph.registry import operator

_EXACT = torch.float64  # holds the sums of integers, which torch convolves on no GPU
_PAST_ROUNDING = "straight-through past the rounding"


@operator("ConvInteger", since=10, gradient=_PAST_ROUNDING)
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The convolution of ``x - x_zero`` with ``w - w_zero``, as int32."""
    sums = convolved(
        _centred(x, x_zero),
        _centred(w, w_zero, 0),
        None,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return holding(torch.int32, sums)


@operator("QLinearConv", since=10, gradient=_PAST_ROUNDING)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The convolution of two quantized tensors, quantized anew."""
    sums = convolved(
        _centred(x, x_zero),
        _centred(w, w_zero, 0),
        None if b is None else held(b, _EXACT),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    channels = (-1, *[1] * (x.dim() - 2))
    scale = x_scale.reshape(()) * w_scale.reshape(channels) / y_scale.reshape(())
    return quantized(sums * scale, y_zero.reshape(()), stored_type(y_zero))


@operator("QLinearMatMul", since=10, gradient=_PAST_ROUNDING)
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """The product of two quantized tensors, quantized anew; ``a`` by row, ``b`` by column."""
    sums = _centred(a, a_zero, -2) @ _centred(b, b_zero)
    scale = _by(a_scale, a, -2) * b_scale / _by(y_scale, sums, -2)
    return quantized(sums * scale, _by(y_zero, sums, -2), stored_type(y_zero))


def _centred(x: Tensor, zero: Tensor | None, axis: int = -1) -> Tensor:
    values = held(x, _EXACT)
    return values if zero is None else values - _by(zero, x, axis)


def _by(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """A vector as it lies along ``axis`` of ``x``; others broadcast as they are."""
    if value.numel() == 1:
        return value.reshape(())
    if value.dim() != 1 or x.dim() == 1:
        return value
    return value.reshape(-1, *[1] * (-axis - 1 if axis < 0 else x.dim() - 1 - axis))
