"""What a leaf of a graph computes: operators on its inputs and on the tensors it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Given:
    """The leaf's input of that number."""

    number: int = 0


@dataclass(frozen=True)
class Own:
    """A tensor that the leaf holds."""

    name: str


@dataclass(frozen=True)
class Made:
    """The outcome of an earlier operator of the leaf; ``part`` of it where it gives several."""

    number: int
    part: int | None = None


@dataclass(frozen=True)
class Ask:
    """One operator: ``aten`` name without its overload, and what it is given."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def arg(self, index: int, default: Any = None, name: str = "") -> Any:
        """A positional or named argument."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)


@dataclass(frozen=True)
class Leaf:
    """What a leaf module does: operators in order, and which outcomes it returns."""

    kind: str  # class, as "Conv2d"
    asks: tuple[Ask, ...]
    outputs: tuple[Any, ...]
    tensors: Mapping[str, Tensor]
