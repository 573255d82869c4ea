"""torch's own functions, with the signature that the registry reads a number of inputs off."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def of_one(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``function`` with one input and no attributes."""

    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


def of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """``function`` with two inputs and no attributes."""

    def apply(a: Tensor, b: Tensor) -> Tensor:
        return function(a, b)

    return apply
