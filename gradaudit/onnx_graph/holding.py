"""Values that lie in the tree of modules: initializers and constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from onnx import FunctionProto, GraphProto
from torch import nn

from gradaudit.onnx_graph.attributes import Reader
from gradaudit.onnx_graph.constants import is_filled, is_mask
from gradaudit.onnx_graph.moved import Moved, Still
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.protos import Key, initializers_of


@dataclass(frozen=True)
class Held:
    """A value that lies in the tree of modules: a parameter, a buffer, or what no tensor is."""

    home: nn.Module
    leaf: str

    @property
    def parameter(self) -> nn.Parameter | None:
        """The parameter, if it is one."""
        return self.home._parameters.get(self.leaf)


@dataclass(frozen=True)
class Values:
    """The held values that a graph can see, by their names, and what nodes made by moving them.

    ``read`` are all values that are read in the graph.
    """

    held: dict[str, Held]
    moved: dict[str, Moved] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def untrained(self, name: str) -> Any:
        """The held value of that name, unless it is a parameter that is trained."""
        found = self.held.get(name)
        value = None if found is None else getattr(found.home, found.leaf)
        return None if isinstance(value, torch.Tensor) and value.requires_grad else value

    def source(self, name: str) -> Moved | Still | None:
        """Where a value comes from, if it is held or moved."""
        found = self.held.get(name)
        return self.moved.get(name) if found is None else Still((found.home,), found.leaf)

    def parameter(self, name: str) -> nn.Parameter | None:
        """The parameter of that name, if it is one."""
        found = self.held.get(name)
        return None if found is None else found.parameter

    def constant(self, name: str) -> Any:
        """The value of that name, if the graph itself has it as a constant."""
        found = self.held.get(name)
        if found is None or found.leaf not in found.home._non_persistent_buffers_set:
            return None
        return getattr(found.home, found.leaf)


@dataclass(frozen=True)
class Builder:
    """What the graphs of one model share."""

    tree: Tree
    read: Reader
    frozen: Collection[str]
    opsets: Mapping[str, int]
    functions: Mapping[Key, FunctionProto]
    names: dict[nn.Parameter, str] = field(default_factory=dict)  # as the module has them

    def hold(self, name: str, value: Any, *, constant: bool = False) -> Held:
        """Place a value under ``name``; a constant is not in the state dict."""
        if not isinstance(value, torch.Tensor):
            keeper = nn.Module()
            vars(keeper)["value"] = value
            return Held(keeper, "value")
        if value.is_floating_point() and not constant and not is_mask(value):
            fixed = name in self.frozen or is_filled(name, value)
            parameter = nn.Parameter(value, requires_grad=not fixed)
            home, leaf, self.names[parameter] = self.tree.add_parameter(name, parameter)
            return Held(home, leaf)
        return Held(*self.tree.add_buffer(name, value, persistent=not constant))


def initializers(graph: GraphProto, builder: Builder) -> dict[str, Held]:
    """The graph's own initializers, placed."""
    own = initializers_of(graph)
    return {name: builder.hold(name, builder.read(each)) for name, each in own.items()}


def constant(attribute: str, value: Any) -> Any:
    """What a Constant node holds, by the one attribute it has."""
    if attribute in ("value", "sparse_value"):
        return value
    if attribute.startswith("value_string"):
        return np.array(value, dtype=object)
    floating = attribute.startswith("value_float")
    return torch.tensor(value, dtype=torch.float32 if floating else torch.int64)
