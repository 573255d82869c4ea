"""The Jacobian of a stage, or of a chain of stages, as a linear map between flat vectors.

Products with the transpose come from reverse-mode differentiation between the stage's two ends.
Products with the Jacobian itself come from differentiating those once more by the cotangent they
are linear in (the "double-backward trick"), so that a stage costs what a stage costs, not a pass
through the whole net as forward mode would.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradaudit.linalg.golub_kahan import LinearMap
from gradaudit.probes.cotangents import Forward
from gradaudit.probes.graph import parents
from gradaudit.probes.trace import Op


@dataclass(frozen=True)
class Cut:
    """The tensors of one trunk position, side by side: what a stage starts from or ends in."""

    edges: tuple[GradientEdge, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, edges: Sequence[GradientEdge]) -> Cut:
        """The cut through these edges of the graph; shapes are read off their nodes."""
        meta = [edge.node._input_metadata[edge.output_nr] for edge in edges]
        return cls(tuple(edges), tuple(tuple(m.shape) for m in meta), tuple(m.dtype for m in meta))

    @property
    def size(self) -> int:
        """Number of entries of all its tensors."""
        return sum(math.prod(shape) for shape in self.shapes)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A flat vector as tensors of the cut's shapes and dtypes."""
        parts = vector.split([math.prod(shape) for shape in self.shapes])
        triples = zip(parts, self.shapes, self.dtypes, strict=True)
        return [part.reshape(shape).to(dtype) for part, shape, dtype in triples]

    def join(self, tensors: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """The tensors (``None`` for zero) as one flat vector of ``like``'s dtype."""
        pairs = zip(tensors, self.shapes, strict=True)
        flat = [
            like.new_zeros(math.prod(shape)) if t is None else t.detach().to(like.dtype).flatten()
            for t, shape in pairs
        ]
        return torch.cat(flat)


class Cuts:
    """Finds the cut that a trunk tensor stands for in one forward pass.

    ``edges`` are the gradient edges of the pass' tensors by ordinal. An operation with several
    results (a split, a recurrent layer) is cut through all of those that the output depends on.
    """

    def __init__(self, forward: Forward, edges: dict[int, GradientEdge]) -> None:
        self._edges = edges
        self._outputs = [get_gradient_edge(tensor) for tensor in forward.outputs]
        self._used: dict[Any, set[int]] = {}
        for edge in self._outputs:
            self._used.setdefault(edge.node, set()).add(edge.output_nr)
        for node in forward.nodes:
            for parent, number in node.next_functions:
                if parent is not None:
                    self._used.setdefault(parent, set()).add(number)

    def at(self, op: Op) -> Cut:
        """The cut at a recorded tensor; raises ``KeyError`` where this pass did not make it."""
        node = self._edges[op.ordinal].node
        return Cut.of([GradientEdge(node, number) for number in sorted(self._used[node])])

    def at_output(self) -> Cut:
        """The cut through all outputs together."""
        return Cut.of(self._outputs)


def at_tensors(tensors: Sequence[Tensor]) -> Cut:
    """The cut through these tensors: inputs or embedded inputs."""
    return Cut.of([get_gradient_edge(tensor) for tensor in tensors])


@dataclass(frozen=True)
class StageMap:
    """The Jacobian d end / d start times ``2 ** -exponent``, to keep deep chains within range."""

    start: Cut
    end: Cut
    exponent: int = 0

    def pull(self, cotangent: Tensor) -> Tensor:
        """The transpose's product: flat ``[end.size]`` to flat ``[start.size]``."""
        found = self._reverse(self.end.split(cotangent), create_graph=False)
        return self.start.join(found, cotangent) * 2.0**-self.exponent

    def push(self, tangent: Tensor) -> Tensor:
        """The Jacobian's product: flat ``[start.size]`` to flat ``[end.size]``."""
        zeros = [
            torch.zeros(shape, dtype=dtype, device=tangent.device, requires_grad=True)
            for shape, dtype in zip(self.end.shapes, self.end.dtypes, strict=True)
        ]
        found = self._reverse(zeros, create_graph=True)
        pairs = zip(found, self.start.split(tangent), strict=True)
        linear = [(g, v) for g, v in pairs if g is not None and g.requires_grad]
        if not linear:
            return tangent.new_zeros(self.end.size)
        grads = torch.autograd.grad(
            [g for g, _ in linear], zeros, [v for _, v in linear], allow_unused=True
        )
        return self.end.join(grads, tangent) * 2.0**-self.exponent

    def _reverse(self, cotangents: list[Tensor], *, create_graph: bool) -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            self.end.edges,
            self.start.edges,
            cotangents,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )


def runs_past(stages: Sequence[StageMap], sources: Collection[Any]) -> bool:
    """Whether some path from the ``sources`` (nodes) reaches a stage's end past its start.

    The trunk of a graph made by other kernels may be another.
    """
    for stage in stages:
        walls = {edge.node for edge in stage.start.edges}
        seen = {edge.node for edge in stage.end.edges} - walls
        queue = list(seen)
        while queue:
            node = queue.pop()
            if node in sources:
                return True
            for parent in parents(node):
                if parent not in seen and parent not in walls:
                    seen.add(parent)
                    queue.append(parent)
    return False


def chain_map(stages: Sequence[StageMap], dtype: torch.dtype, device: torch.device) -> LinearMap:
    """The product of the stages' Jacobians, first stage innermost, less all their exponents."""

    def push(vector: Tensor) -> Tensor:
        for stage in stages:
            vector = stage.push(vector)
        return vector

    def pull(vector: Tensor) -> Tensor:
        for stage in reversed(stages):
            vector = stage.pull(vector)
        return vector

    return LinearMap(push, pull, stages[-1].end.size, stages[0].start.size, dtype, device)
