"""Which format each tensor of a float32 forward pass would have in half precision.

Formats are followed by the storage that holds a tensor, so that views share one. Every operation's
output is entered anew, so that a storage freed and used again cannot keep its old entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from gradaudit.probes.half_formats import ATTENTION, HALVES, TO_FLOAT, TO_HALF

_WIDE = (torch.float32, torch.float64)


class Kind(Enum):
    """The format a tensor would have."""

    HALF = "half"
    FULL = "float32"
    SCALED = "float32 inside unfused attention"


class SimulatedTypes:
    """Formats under autocast (weights and data in float32) or where everything is half ("pure").

    ``policy`` is the device whose autocast lists hold: "cuda" or "cpu".
    """

    def __init__(self, *, pure: bool, policy: str) -> None:
        self.pure = pure
        self._to_float = TO_FLOAT[policy]
        self._outside = Kind.HALF if pure else Kind.FULL
        self._known: dict[int, Kind] = {}

    def kind(self, tensor: Tensor) -> Kind:
        """The tensor's format; what no operation made has that of weights and data."""
        return self._known.get(storage(tensor), self._outside)

    def put(self, tensor: Tensor, kind: Kind) -> None:
        """Enter what an operation made."""
        self._known[storage(tensor)] = kind

    def casts(self, op: str, given: Sequence[Tensor]) -> bool:
        """Whether autocast feeds ``op`` half copies of the floating tensors it is ``given``."""
        if self.pure or not (op in TO_HALF or op.startswith(ATTENTION)):
            return False
        return not self._inside_attention(op, given)

    def made_by(self, op: str, given: Sequence[Tensor], asked: torch.dtype | None) -> Kind:
        """The format of what ``op`` makes of the floating tensors it is ``given``.

        ``asked`` is the ``dtype`` argument, where there was one.
        """
        if op == "mul_scalar":
            return Kind.SCALED  # only torch's own unfused attention scales q and k this way
        if self._inside_attention(op, given):
            return Kind.FULL
        if op == "to_copy":
            return self._copied(given, asked)
        if op in TO_HALF or op.startswith(ATTENTION):
            # Half weights meet half inputs only; what is wholly in float32 was cast on purpose.
            full = self.pure and all(self.kind(t) is Kind.FULL for t in given)
            return Kind.FULL if full else Kind.HALF
        if asked in _WIDE or (not self.pure and op in self._to_float):
            return Kind.FULL
        return self._promoted(given)

    def _copied(self, given: Sequence[Tensor], asked: torch.dtype | None) -> Kind:
        if asked in HALVES:
            return Kind.HALF
        if given and asked in _WIDE:
            return Kind.FULL
        return self._promoted(given)

    def _promoted(self, given: Sequence[Tensor]) -> Kind:
        if not given:
            return self._outside
        wide = [t for t in given if t.dim() > 0] or given  # numbers do not promote tensors
        kinds = {self.kind(t) for t in wide}
        return kinds.pop() if len(kinds) == 1 else Kind.FULL

    def _inside_attention(self, op: str, given: Sequence[Tensor]) -> bool:
        """Torch's unfused attention takes its logits in float32, also of half inputs."""
        return op == "bmm" and bool(given) and all(self.kind(t) is Kind.SCALED for t in given)


def storage(tensor: Tensor) -> int:
    """What views of one tensor have in common."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def floating(values: Any) -> list[Tensor]:
    """The floating and complex ones among tensors."""
    return [t for t in values if t.is_floating_point() or t.is_complex()]
