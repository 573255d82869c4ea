"""Conversions between element types."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import ELEMENT_TYPES, to_numpy, torch_dtype

_FLOAT8 = (
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
)
_E4M3FN_TIE = 464.0  # halfway from the largest value to the next; torch saturates there


@operator("Cast", since=6)
def cast(x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    """The values as another type."""
    if to == TensorProto.STRING:
        return x if isinstance(x, np.ndarray) else to_numpy(x).astype(str).astype(object)
    dtype = torch_dtype(to)
    if isinstance(x, np.ndarray):
        return _parsed(x, dtype)
    if dtype in _FLOAT8:
        return _as_float8(x, dtype, bool(saturate))
    if dtype == torch.float8_e8m0fnu:
        return _as_power_of_two(x, bool(saturate), round_mode)
    return x.to(dtype)


@operator("CastLike", since=15)
def cast_like(x: Any, target: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    """The values as the type of ``target``."""
    to = ELEMENT_TYPES[target.dtype] if isinstance(target, Tensor) else TensorProto.STRING
    return cast(x, to=to, saturate=saturate, round_mode=round_mode)


@operator("BitCast", since=26)
def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """The same bits, read as another type of as many."""
    dtype = torch_dtype(to)
    if x.dtype == torch.int64 and dtype.itemsize < 8:
        # an unsigned integer that was widened on the way here
        x = x.to({1: torch.uint8, 2: torch.int16, 4: torch.int32}[dtype.itemsize])
    if x.element_size() != dtype.itemsize:
        raise ValueError(
            f"a type of {8 * x.element_size()} bits is needed, "
            f"not {str(dtype).removeprefix('torch.')}"
        )
    return x.view(dtype)


def _parsed(texts: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    """Numbers from their decimal notation; integers may have a point and digits behind it."""
    exact = not dtype.is_floating_point
    numbers = [int(t) if exact and t.strip("+-").isdigit() else float(t) for t in texts.flat]
    whole = [int(n) for n in numbers] if exact else numbers
    return torch.tensor(whole, dtype=dtype).reshape(texts.shape)


def _as_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    x = x.float() if x.element_size() == 1 or not x.is_floating_point() else x
    largest = torch.finfo(dtype).max
    if saturate:
        x = x.clamp(-largest, largest)
    elif dtype == torch.float8_e4m3fn:
        x = torch.where(x.abs() > _E4M3FN_TIE, torch.nan, x)
    return x.to(dtype)


def _as_power_of_two(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """float8e8m0, whose byte b is 2^(b-127), and 255 not a number."""
    edges = {"up": 0.5, "down": 1.0, "nearest": 0.75}
    if round_mode not in edges:
        raise ValueError(f"round_mode should be up, down or nearest, not {round_mode!r}")
    x = x if x.dtype == torch.float64 else x.float()
    mantissa, exponent = torch.frexp(x)  # the mantissa in [0.5, 1)
    edge = edges[round_mode]
    raised = mantissa >= edge if round_mode == "nearest" else mantissa > edge
    byte = exponent + 126 + raised.to(torch.int32)
    byte = torch.where(x == 0, -1, torch.where(x == torch.inf, 255, byte))
    byte = byte.clamp(0, 254) if saturate else torch.where((byte < 0) | (byte > 254), 255, byte)
    return torch.where(torch.isnan(x), 255, byte).to(torch.uint8).view(torch.float8_e8m0fnu)
