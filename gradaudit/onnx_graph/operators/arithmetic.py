"""Elementwise functions of several tensors, broadcast against each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._constants import number
from gradaudit.onnx_graph.operators._wrapped import of_two
from gradaudit.onnx_graph.registry import operator

_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
_OF_MANY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}


def _of_many(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: reduce(function, tensors)


for _name, _function in _OF_TWO.items():
    operator(_name, since=7)(of_two(_function))
for _name, _function in _OF_MANY.items():
    operator(_name, since=6)(_of_many(_function))


@operator("Mean", since=6)
def mean(*tensors: Tensor) -> Tensor:
    """The mean over the inputs, entry by entry."""
    return reduce(torch.add, tensors) / len(tensors)


@operator("Div", since=7)
def divide(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``; of integers the quotient truncated towards zero."""
    if a.is_floating_point():
        return torch.div(a, b)
    if a.dtype == torch.uint8:
        return torch.div(a, b, rounding_mode="trunc")
    # the processor traps on the least integer over -1
    opposite = b == -1
    quotient = torch.div(a, torch.where(opposite, 1, b), rounding_mode="trunc")
    return torch.where(opposite, -a, quotient)


@operator("Mod", since=10)
def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """``a - floor(a/b) b``, or with ``fmod`` ``a - trunc(a/b) b``."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@operator("Pow", since=7)
def power(x: Tensor, y: Tensor) -> Tensor:
    """``x^y`` in the type of ``x``."""
    if not x.is_floating_point():
        return torch.pow(x.double() if y.is_floating_point() else x, y).to(x.dtype)
    exponent = number(y) if y.dim() <= x.dim() else None
    if exponent is not None or y.dtype == x.dtype:  # and under autocast in what torch makes of it
        return torch.pow(x, y if exponent is None else exponent)
    return torch.pow(x, y).to(x.dtype)


@operator("BitShift", since=11)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """``x 2^y`` to the left, ``floor(x / 2^y)`` to the right, with nothing but the sign left over
    where ``y`` is no number of bits that ``x`` has.
    """
    bits = 8 * x.element_size()
    beyond = (y < 0) | (y >= bits)
    within = torch.where(beyond, 0, y)
    if direction == "LEFT":
        return torch.where(beyond, 0, torch.bitwise_left_shift(x, within))
    if direction == "RIGHT":
        sign = torch.where(x < 0, -1, 0).to(x.dtype)
        return torch.where(beyond, sign, torch.bitwise_right_shift(x, within))
    raise ValueError(f"direction should be LEFT or RIGHT, not {direction!r}")
