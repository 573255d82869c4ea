"""Pieces of the graph between two tensors, with the parameters and modules that are in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from gradaudit.probes.graph import Graph
from gradaudit.probes.trace import Op, Trace
from gradaudit.subject.places import Place, places

# Adding a parameter (a bias, a position table) is no linear map of the stream.
_ADDITIVE = {"AddBackward0", "SubBackward0"}


@dataclass
class Segment:
    """What lies between two tensors: autograd nodes, parameters, and whether paths join there."""

    start: Op | None
    end: Op | None
    region: set[Any]
    parameters: list[str]
    weights: list[str]  # the parameters that act as linear maps
    joined: bool

    def absorb(self, other: Segment) -> None:
        """Extend over the segment behind this one."""
        self.end = other.end
        self.region = self.region | other.region
        self.parameters = self.parameters + other.parameters
        branches = (self.joined and self.weights) or (other.joined and other.weights)
        self.weights = self.weights + other.weights
        self.joined = bool(branches)


class Cutter:
    """Cuts the graph between two tensors into a segment, with the parameters that enter there."""

    def __init__(self, model: nn.Module, trace: Trace, graph: Graph) -> None:
        self.graph, self.trace, self.model = graph, trace, model
        self.uses: dict[int, list[Place]] = {}
        for place in places(model):
            self.uses.setdefault(id(place.parameter), []).append(place)
        named = [place.name for uses in self.uses.values() for place in uses]
        self.order = {name: i for i, name in enumerate(dict.fromkeys(named))}
        self.calls = {op.node: op.call for op in trace.ops if op.node is not None}

    def modules(self, region: set[Any]) -> list[str]:
        """Names of the modules that were being called where ``region`` was computed."""
        calls = (self.calls.get(node) for node in region)
        return sorted({call.module for call in calls if call is not None and call.module})

    def parameters(self, region: set[Any]) -> tuple[list[str], list[str]]:
        """Names of the parameters that enter ``region``, and of those that are linear maps in it.

        A tied parameter goes by the name it has in a module that was called here.
        """
        called = set(self.modules(region))
        parameters: set[str] = set()
        weights: set[str] = set()
        for node in region.difference(self.graph.sources):
            for leaf in self.graph.side_leaves(node):
                uses = self.uses.get(id(leaf), [])
                here = [use.name for use in uses if use.module in called]
                here = here or [use.name for use in uses]
                parameters.update(here[:1])
                if leaf.dim() >= 2 and node.name() not in _ADDITIVE:
                    weights.update(here[:1])
        return self.sort(parameters), self.sort(weights)

    def sort(self, names: set[str]) -> list[str]:
        """In the model's own order."""
        return sorted(names, key=self.order.__getitem__)

    def owner(self, parameter: str) -> str:
        """The module a parameter is named after, or else the one around the call that uses it."""
        named = parameter.rpartition(".")[0]
        if named or parameter not in self.order:
            return named
        users = {use.module for uses in self.uses.values() for use in uses if use.name == parameter}
        around = (call.parent for call in self.trace.calls if call.module in users)
        return next((call.module for call in around if call is not None), "")

    def segment(self, start: Op | None, end: Op | None) -> Segment:
        """What lies after ``start`` up to and with ``end``."""
        graph = self.graph
        region = graph.region(start.node if start else None, end.node if end else None)
        parameters, weights = self.parameters(region)
        if any(node.name().startswith("CheckpointFunction") for node in region):
            hidden = self.checkpointed(start, end)
            parameters = self.sort({*parameters, *hidden})
            weights = self.sort({*weights, *(n for n, p in hidden.items() if p.dim() >= 2)})
        return Segment(start, end, region, parameters, weights, graph.joins(region))

    def checkpointed(self, start: Op | None, end: Op | None) -> dict[str, nn.Parameter]:
        """Parameters of the modules called in between: reentrant checkpointing has no graph."""
        first = start.ordinal if start else -1
        last = end.ordinal if end else float("inf")
        called = {call.module for call in self.trace.calls if first < call.first <= last}
        uses = [use for each in self.uses.values() for use in each]
        return {use.name: use.parameter for use in uses if use.module in called}
