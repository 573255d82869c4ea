"""Sizes of all gradient entries that half precision would have to hold, as counts per binade.

Counted, not sampled: the share that rounds to zero is then exact at every loss scale, which is a
power of two, from one backward pass.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradaudit.probes._half_watch import Seen
from gradaudit.probes.graph import leaf_variable

_CHUNK = 1 << 17  # entries at a time, so that the counting stays in the cache
_LOWEST = -127  # binade b holds (2^(b-1), 2^b] from -126 up; all below is one, told apart by _TINY
_BINS = 257
_MAGNITUDE, _INFINITE = 0x7FFFFFFF, 0x7F800000  # bits of a float32
_TINY = -134  # power of two at and below which bfloat16 rounds to zero


@dataclass
class Sizes:
    """Counts of entries by magnitude."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(_BINS, dtype=torch.int64))
    tiny: int = 0  # entries of at most 2^_TINY, zeros left out
    peak: float = 0.0
    finite: bool = True

    def add(self, gradient: Tensor) -> None:
        """Count the entries of one gradient."""
        if gradient.is_sparse:
            gradient = gradient.coalesce().values()
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        flat = _flat(gradient.detach())
        for chunk in flat.split(_CHUNK) if flat.numel() else ():
            self._count(chunk)

    def _count(self, chunk: Tensor) -> None:
        if chunk.dtype is not torch.float32:
            # what float64 holds below float32's least number is lost in any half format
            vanishing = (chunk != 0) & (chunk.abs() < 2.0**-149)
            chunk = chunk.float().masked_fill_(vanishing, 2.0**-149)
        # A float's bits without the sign order like its magnitude.
        bits = chunk.view(torch.int32).bitwise_and(_MAGNITUDE)
        top = int(bits.max())
        self.finite = self.finite and top < _INFINITE
        if not self.finite:
            return
        self.peak = max(self.peak, struct.unpack("<f", struct.pack("<i", top))[0])
        # Less one, they put (2^(b-1), 2^b] into one binade.
        binades = bits.sub_(1).bitwise_right_shift_(23).add_(1)
        found = torch.bincount(binades, minlength=_BINS).cpu()
        self.counts += found
        if int(found[1]):
            self.tiny += int(((chunk != 0) & (chunk.abs() <= 2.0**_TINY)).sum())

    @property
    def nonzero(self) -> int:
        """Entries that are not zero."""
        return int(self.counts[1:].sum())

    def up_to(self, power: int) -> int:
        """Entries, zeros left out, of at most 2 to this power (``_TINY``, or -126 and above)."""
        if power <= _TINY:
            return self.tiny
        return int(self.counts[1 : max(power - _LOWEST, 0) + 1].sum())


def _flat(tensor: Tensor) -> Tensor:
    """All entries, in the order they are stored in: a transposed matrix need not be copied."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
    return tensor.permute(order).reshape(-1).contiguous()


def _shape(node: Any) -> tuple[int, ...]:
    """Of the leaf that a gradient goes to; empty for any other tensor."""
    leaf = leaf_variable(node)
    return () if leaf is None else tuple(leaf.shape)


def _reduced(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """As the engine hands it on: what was broadcast is added up behind the node's hooks."""
    if gradient.is_sparse or not shape or gradient.shape == shape:
        return gradient
    return gradient.sum_to_size(shape)


class GradientWatch:
    """Hooks the autograd graph of a watched forward pass for one backward pass.

    Counted are the gradients of all tensors in half precision, and those that an operation in half
    precision returns to what is kept in float32 (weights, the residual stream): autograd rounds
    both before it casts them back.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.sizes: dict[str, Sizes] = {}

    def attach(self, nodes: Iterable[Any]) -> list[Any]:
        """Hook every node of a half-precision operation; returns the handles to remove."""
        half = [node for node in nodes if self._is_half(node)]
        return [node.register_hook(self._hook(node)) for node in half]

    def _is_half(self, node: Any) -> bool:
        return node._sequence_nr() in self._seen.half

    def _hook(self, node: Any) -> Callable[[Any, Any], None]:
        place = self._seen.nodes[node._sequence_nr()]
        assert place is not None
        sizes = self.sizes.setdefault(place.module, Sizes())
        wide = [None if self._lands_in_half(p) else _shape(p) for p, _ in node.next_functions]

        def hook(returned: Any, given: Any) -> None:
            for gradient in given:
                if gradient is not None:
                    sizes.add(gradient)
            for gradient, shape in zip(returned, wide, strict=True):
                if gradient is not None and shape is not None:
                    sizes.add(_reduced(gradient, shape))

        return hook

    def _lands_in_half(self, node: Any) -> bool:
        """Whether the gradient goes to a tensor of half precision, where it is counted anyway."""
        while node is not None and leaf_variable(node) is None:
            number = node._sequence_nr()
            if number not in self._seen.nodes or self._seen.nodes[number] is not None:
                return number in self._seen.half
            node = node.next_functions[0][0] if node.next_functions else None
        return False


def pooled(sizes: Mapping[str, Sizes]) -> Sizes:
    """All of them together."""
    total = Sizes()
    for each in sizes.values():
        total.counts += each.counts
        total.tiny += each.tiny
        total.peak = max(total.peak, each.peak)
        total.finite = total.finite and each.finite
    return total
