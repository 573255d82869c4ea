"""Weights on their way: what nodes that only move numbers make of parameters.

An export without constant folding turns, slices and stacks a recurrent layer's weights into ONNX's
order each time the graph runs. Where they come from is found by sending numbered entries along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.onnx_graph.node import Node

# What these make of a weight is the same weight elsewhere: whoever computes with it owns it.
MOVERS = frozenset(
    {"Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
Instead = Callable[[Any], Any]


@dataclass(frozen=True)
class Still:
    """A held value."""

    home: tuple[nn.Module]  # in a tuple, so that no module takes it for a child
    leaf: str

    def evaluate(self, instead: Instead) -> Any:
        """The value, or what takes its place."""
        return instead(getattr(self.home[0], self.leaf))

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameter, if it is one."""
        value = getattr(self.home[0], self.leaf)
        if isinstance(value, nn.Parameter):
            yield value


@dataclass(frozen=True)
class Moved:
    """One output of a node that moves held or moved values."""

    module: tuple[Node]
    inputs: tuple[Moved | Still | None, ...]
    output: int

    def evaluate(self, instead: Instead = lambda value: value) -> Any:
        """The value now; or what would come of other held values."""
        given = [None if each is None else each.evaluate(instead) for each in self.inputs]
        made = self.module[0].compute(given, None)
        return made[self.output] if isinstance(made, tuple) else made

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those it is made of, as often as they go in."""
        for each in self.inputs:
            if each is not None:
                yield from each.parameters()


def origins(
    made: Callable[[Instead], Mapping[str, Tensor]], parameters: Sequence[nn.Parameter]
) -> dict[str, nn.Parameter]:
    """For each tensor that ``made`` gives of ``parameters``, the one all its entries come from."""
    ends = list(accumulate(each.numel() for each in parameters))
    numbered = {
        id(each): torch.arange(end - each.numel(), end, dtype=torch.float64).view(each.shape)
        for each, end in zip(parameters, ends, strict=True)
    }
    found = {}
    for name, numbers in made(lambda value: numbered.get(id(value), value)).items():
        low, high = (
            next(i for i, end in enumerate(ends) if entry < end)
            for entry in (int(numbers.min()), int(numbers.max()))
        )
        if low == high:
            found[name] = parameters[low]
    return found
