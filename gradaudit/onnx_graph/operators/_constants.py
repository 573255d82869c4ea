"""Inputs that are numbers rather than something to differentiate by."""

from __future__ import annotations

from torch import Tensor
from torch.autograd import forward_ad


def number(value: Tensor) -> float | int | None:
    """What a one-element tensor holds; ``None`` where a derivative is taken by it.

    torch's functions of a tensor and a number cost a fraction of those of two tensors.
    """
    return None if value.numel() != 1 or varies(value) else value.item()


def varies(value: Tensor) -> bool:
    """Whether a derivative is taken by it, in either mode."""
    return value.requires_grad or forward_ad.unpack_dual(value).tangent is not None
