"""The autograd graph behind an output, and the tensors every path through it must pass.

Growth inside a residual branch says nothing about the stream beside it. The tensors that *every*
path from the model's input to its output passes through are the immediate dominators of the output
(Cooper, Harvey and Kennedy 2001, as implemented by networkx).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
from torch import Tensor

_SOURCE, _SINK = "source", "sink"


def parents(node: Any) -> list[Any]:
    """The nodes whose results ``node`` was computed from."""
    return [parent for parent, _ in node.next_functions if parent is not None]


def leaf_variable(node: Any) -> Tensor | None:
    """The leaf tensor an ``AccumulateGrad`` node stands for; ``None`` for any other node."""
    return getattr(node, "variable", None)


def nodes_of(tensors: Iterable[Tensor]) -> list[Any]:
    """Autograd nodes of non-leaf tensors."""
    return [t.grad_fn for t in tensors if t.grad_fn is not None]


def reachable(roots: Iterable[Any]) -> set[Any]:
    """Every node the roots were computed from, the roots among them."""
    seen = set(roots)
    queue = list(seen)
    while queue:
        for parent in parents(queue.pop()):
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return seen


@dataclass(frozen=True)
class Graph:
    """The part of an autograd graph that lies between ``sources`` and ``sinks``."""

    between: nx.DiGraph[Any]  # edges run forward, from input to output
    sources: tuple[Any, ...]
    sinks: tuple[Any, ...]
    above: Mapping[Any, Any]  # immediate dominator of each node
    results: frozenset[tuple[Any, int]] = (
        frozenset()
    )  # outputs by node and number among its results

    @classmethod
    def of(cls, sources: Iterable[Any], outputs: Iterable[Tensor]) -> Graph:
        """Cut the graph behind ``outputs`` down to what depends on ``sources``."""
        outputs = list(outputs)
        sinks = tuple(dict.fromkeys(nodes_of(outputs)))
        everything = reachable(sinks)
        origins = tuple(s for s in dict.fromkeys(sources) if s in everything)
        children: dict[Any, list[Any]] = {}
        for node in everything:
            for parent in parents(node):
                children.setdefault(parent, []).append(node)
        dependent, queue = set(origins), list(origins)
        while queue:
            for child in children.get(queue.pop(), []):
                if child not in dependent:
                    dependent.add(child)
                    queue.append(child)
        between: nx.DiGraph[Any] = nx.DiGraph()
        between.add_edges_from((_SOURCE, s) for s in origins)
        between.add_edges_from((t, _SINK) for t in sinks if t in dependent)
        between.add_edges_from(
            (parent, node) for node in dependent for parent in parents(node) if parent in dependent
        )
        above = nx.immediate_dominators(between, _SOURCE) if _SINK in between and origins else {}
        results = frozenset((t.grad_fn, t.output_nr) for t in outputs)
        return cls(between, origins, tuple(t for t in sinks if t in dependent), above, results)

    @property
    def connected(self) -> bool:
        """Whether any output depends on any source."""
        return bool(self.sources and self.sinks)

    def __contains__(self, node: Any) -> bool:
        return node in self.between

    def dominators(self) -> list[Any]:
        """Nodes that every path from source to sink passes through, in forward order."""
        if not self.connected:
            return []
        chain, node = [], self.above[_SINK]
        while node != _SOURCE:
            chain.append(node)
            node = self.above[node]
        return chain[::-1]

    def used_results(self, node: Any) -> set[int]:
        """Which of a node's results (a split has several) the outputs depend on."""
        used = {number for maker, number in self.results if maker is node}
        for child in self.between.successors(node):
            if child != _SINK:
                used.update(number for parent, number in child.next_functions if parent is node)
        return used

    def region(self, start: Any | None, end: Any | None) -> set[Any]:
        """Nodes of the graph after ``start`` up to and with ``end`` (``None``: source, sink)."""
        queue = [end] if end is not None else list(self.sinks)
        inside = set(queue)
        while queue:
            for parent in self.between.predecessors(queue.pop()):
                if parent not in inside and parent is not start and parent != _SOURCE:
                    inside.add(parent)
                    queue.append(parent)
        return inside

    def joins(self, region: set[Any]) -> bool:
        """Whether parallel paths come together somewhere in ``region``."""
        return any(self.merges(node) for node in region)

    def merges(self, node: Any) -> bool:
        """Whether parallel paths come together in ``node``; inputs that meet are none."""
        inputs_meet = self.above[node] == _SOURCE and len(self.sources) > 1
        # ``in_degree`` would tie the graph, and so all activations, into a cycle with its own view.
        return len(self.between.pred[node]) > 1 and not inputs_meet

    def joined_from(self, node: Any) -> set[Any]:
        """The nodes of the parallel paths that come together in ``node``."""
        return self.region(self.above[node], node)

    def side_leaves(self, node: Any) -> Iterator[Tensor]:
        """Leaf tensors (parameters) that enter the graph at ``node`` from beside it."""
        seen: set[Any] = set()
        queue = [p for p in parents(node) if p not in self.between]
        while queue:
            side = queue.pop()
            if side in seen:
                continue
            seen.add(side)
            variable = leaf_variable(side)
            if variable is not None:
                yield variable
            queue.extend(p for p in parents(side) if p not in self.between)
