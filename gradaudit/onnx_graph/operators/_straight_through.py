"""Quantized tensors that remember the values they hold, so that gradients pass them.

autograd carries no integers, and would round gradients to the 8 bits of a float8. What an operator
rounds is kept beside the result, as floating values whose gradient is that of what was rounded, and
found again by the operator that takes it back.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NAME = "gradaudit_values"

LIMITS = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.uint16: (0, 65535),
    torch.int16: (-32768, 32767),
}

_FLOATS = (
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
)
_E4M3FN_TIE = 464  # halfway between its largest number and what would be the next


def rounded(x: Tensor) -> Tensor:
    """``x`` rounded, halves to even, with the gradient of ``x``."""
    return x + (x.round() - x).detach()


def quantized(x: Tensor, zero: Tensor | None, kind: torch.dtype) -> Tensor:
    """``round(x) + zero`` within the limits of ``kind``; gradients pass where it is within."""
    if kind not in LIMITS:
        kinds = ", ".join(str(each).removeprefix("torch.") for each in (*LIMITS, *_FLOATS))
        raise ValueError(f"expected a quantized type of {kinds}, found {kind}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # halves do not hold all of 16 bits
    low, high = (torch.tensor(each, dtype=x.dtype, device=x.device) for each in LIMITS[kind])
    offset = torch.zeros_like(low) if zero is None else zero.to(x.dtype)
    return holding(kind, rounded(x.clamp(low - offset, high - offset)) + offset)


def as_float8(x: Tensor, zero: Tensor | None, kind: torch.dtype, *, saturate: bool) -> Tensor:
    """``x + zero`` rounded to a float8; what is too large for it is its largest, or none."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    exact = x if zero is None else x + zero.to(x.dtype)
    if saturate:
        largest = torch.finfo(kind).max
        exact = exact.clamp(-largest, largest)
    elif kind == torch.float8_e4m3fn:
        exact = torch.where(exact.abs() > _E4M3FN_TIE, torch.nan, exact)
    near = exact.detach().to(kind)
    setattr(near, _NAME, exact + (near.to(exact.dtype) - exact).detach())
    return near


def is_float8(kind: torch.dtype) -> bool:
    """Whether :func:`as_float8` rounds to this type."""
    return kind in _FLOATS


def holding(kind: torch.dtype, values: Tensor) -> Tensor:
    """Whole ``values`` as integers that remember them."""
    result = values.detach().to(kind)
    setattr(result, _NAME, values)
    return result


def held(x: Tensor, kind: torch.dtype) -> Tensor:
    """The values of quantized ones in a floating type, the remembered ones if there are any."""
    values: Tensor = getattr(x, _NAME, x)
    return values.to(kind)


def stored_type(x: Tensor) -> torch.dtype:
    """The quantized type of ``x``: uint16 is computed with as int64, which itself is none."""
    return torch.uint16 if x.dtype == torch.int64 else x.dtype
