"""Nodes that are one of torch's own layers, so that whoever looks for those finds them.

A convolution with constant weights is an ``nn.Conv2d``, down to the names of its attributes; what
it computes is still the operator's function. A node that torch's layer could not compute, for
example one whose weight another node makes, is a plain :class:`Node`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from torch import nn

from gradaudit.onnx_graph.moved import Moved

Parameters = Sequence[nn.Parameter | None]  # by input; None where it is no parameter


@dataclass(frozen=True)
class Layer:
    """torch's class, the attribute of each input there, and what else the class's users read."""

    base: type[nn.Module]
    leaves: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    # Parameters that come to it moved, by the attribute they get.
    made_of: Mapping[str, nn.Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A node: its attributes, the opset version, its inputs that are parameters, how many it has.

    ``absent`` are inputs that are left out; behind the last one all are.
    """

    keywords: Mapping[str, Any]
    parameters: Parameters
    absent: frozenset[int]
    moved: Sequence[Moved | None] = ()  # by input: what nodes made of parameters by moving them

    def parameter(self, i: int) -> nn.Parameter | None:
        """Input ``i``, if it is a parameter."""
        return self.parameters[i] if i < len(self.parameters) else None

    def missing(self, i: int) -> bool:
        """Whether input ``i`` is left out."""
        return i >= len(self.parameters) or i in self.absent


Maker = Callable[[Asked], Layer | None]
_makers: dict[tuple[str, str], Maker] = {}


def layer_of(domain: str, name: str, asked: Asked) -> Layer | None:
    """The layer that a node of this operator is; ``None`` where it is none."""
    maker = _all().get((domain, name))
    return None if maker is None else maker(asked)


@cache
def _all() -> Mapping[tuple[str, str], Maker]:
    package = import_module("gradaudit.onnx_graph.layers")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return _makers


def layer(name: str, domain: str = "") -> Callable[[Maker], Maker]:
    """Register what makes the layer of an operator, where one of its nodes is one."""

    def register(maker: Maker) -> Maker:
        _makers[domain, name] = maker
        return maker

    return register
