"""Random cotangents pulled back through one forward pass, read at every stage boundary.

With ``u ~ N(0, I)`` at the output, ``E ||J_l^T u||^2 = ||J_l||_F^2`` for every trunk tensor ``l``
at once, from one backward pass (Hutchinson 1990). The cotangent is rescaled by a power of two at
each trunk tensor and the logs are added up in float64, so depth cannot overflow float32. Where a
stage of the trunk lets nothing through, a fresh cotangent starts before it: what lies before a head
of zeros is measured all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradaudit.probes.graph import leaf_variable, nodes_of, reachable
from gradaudit.probes.trace import Trace, joint_norm, record, tensors_in, unit_shift
from gradaudit.probes.trunk import Stage
from gradaudit.subject import Batch, Opened


@dataclass
class Forward:
    """One forward pass with a graph, and where it starts and ends."""

    trace: Trace
    leaves: list[Tensor]
    sources: list[Tensor]
    outputs: list[Tensor]
    embedded: bool

    @cached_property
    def nodes(self) -> set[Any]:
        """All autograd nodes behind the outputs."""
        return reachable(nodes_of(self.outputs))

    def from_input(self, number: int | None) -> list[Tensor]:
        """The sources, or the one input of this number alone."""
        return self.sources if number is None else [self.leaves[number]]

    @cached_property
    def reentrant(self) -> bool:
        """Whether reentrant checkpointing hides part of the graph."""
        return any(node.name().startswith("CheckpointFunction") for node in self.nodes)


def map_inputs(batch: Batch, change: Callable[[Tensor], Tensor], *, masks: bool = False) -> Batch:
    """The batch with ``change`` applied to its floating inputs; to masks only if asked to."""

    def apply(name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            kept = not value.is_floating_point() or (not masks and _is_mask(name, value))
            return value if kept else change(value)
        if isinstance(value, (tuple, list)):
            return type(value)(apply(name, item) for item in value)
        return value

    if isinstance(batch.inputs, Mapping):
        changed: Any = {name: apply(name, value) for name, value in batch.inputs.items()}
    else:
        changed = tuple(apply("", value) for value in batch.inputs)
    return replace(batch, inputs=changed)


def _is_mask(name: str, value: Tensor) -> bool:
    return "mask" in name or bool(torch.isneginf(value).any())


def run_forward(
    model: nn.Module, opened: Opened, *, look: Callable[[int, Tensor], None] | None = None
) -> Forward:
    """One recorded forward pass of the first batch, with a graph from its inputs or embeddings.

    ``look(ordinal, tensor)`` is shown every tensor as it is made; the trace keeps none then.
    """
    leaves: list[Tensor] = []
    tables: list[Tensor] = []

    def lift(value: Tensor) -> Tensor:
        leaf = value.detach().clone().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()  # the model may change its input in place

    def watch(ordinal: int, tensor: Tensor, _replaceable: bool) -> None:
        if look is not None:
            look(ordinal, tensor)
        node = tensor.grad_fn
        if not leaves and node is not None and node.name().startswith("Embedding"):
            tables.append(tensor)

    if any(is_lazy(parameter) for parameter in model.parameters()):
        with torch.no_grad():  # the pass that makes a lazy module's parameters is like no other
            opened.batches[0].run(model)
    with torch.enable_grad():
        batch = map_inputs(opened.batches[0].fresh(), lift)
        trace = record(model, lambda: batch.call(model), watch=watch, keep_norms=look is None)
        outputs = outputs_of(opened, trace.output, batch)
    sources = leaves or list({id(t.grad_fn): t for t in tables}.values())
    return Forward(trace, leaves, sources, outputs, embedded=not leaves)


def outputs_of(opened: Opened, output: Any, batch: Batch) -> list[Tensor]:
    """The output tensors the loss is made of; all of them where that cannot be told."""
    tensors = [t for t in tensors_in(output) if t.is_floating_point() and t.grad_fn is not None]
    tensors = list({(t.grad_fn, t.output_nr): t for t in tensors}.values())
    wide = [t for t in tensors if t.numel() > 1] or tensors
    if len(wide) <= 1 or opened.objective is None:
        return wide
    try:
        loss = opened.objective(output, batch)
    except Exception:  # whatever the user's loss raises is the gradient probe's to report
        return wide
    used = reachable([loss.grad_fn]) if loss.grad_fn is not None else set()
    return [t for t in wide if t.grad_fn in used] or wide


def source_nodes(forward: Forward) -> list[Any]:
    """The autograd nodes the inputs (or embedding outputs) stand for."""
    if forward.embedded:
        return [t.grad_fn for t in forward.sources]
    wanted = {id(leaf) for leaf in forward.leaves}
    return [node for node in forward.nodes if id(leaf_variable(node)) in wanted]


@dataclass(frozen=True)
class Logs:
    """``[m, stages + 1]`` log squared norms of the cotangents, first input to output.

    ``sent`` is what each boundary sends on, and differs from what has ``arrived`` only where that
    was zero and a fresh cotangent started.
    """

    arrived: Tensor
    sent: Tensor

    def shut(self, i: int, j: int) -> bool:
        """Whether a stage between boundaries ``i`` and ``j`` lets nothing through."""
        return bool(torch.isneginf(self.arrived[:, i:j]).any())


class Ladder:
    """Reads, and on a trunk rescales, the cotangent at every stage boundary of a backward pass."""

    def __init__(self, stages: Sequence[Stage], seed: int, *, rescale: bool) -> None:
        self.nodes = [stage.end.node if stage.end else None for stage in stages]
        self.start = stages[0].start.node if stages[0].start else None
        self.rescale = rescale
        self.exponent = 0
        self.logs: dict[Any, float] = {}
        self.fresh: dict[Any, float] = {}
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, like: Tensor) -> Tensor:
        """A cotangent ``N(0, I)`` for that tensor."""
        drawn = torch.randn(like.shape, generator=self.generator)
        return drawn.to(like.device, like.dtype)

    def _read(self, key: Any) -> Any:
        def hook(cotangents: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
            present = [c for c in cotangents if c is not None]
            norm = joint_norm(present)
            self.logs[key] = self.log_square(norm)
            if not self.rescale or not math.isfinite(norm):
                return None
            if norm == 0:
                started = tuple(None if c is None else self.draw(c) for c in cotangents)
                self.fresh[key] = self.log_square(joint_norm([c for c in started if c is not None]))
                return started
            rms = norm / math.sqrt(max(sum(c.numel() for c in present), 1))
            shift = min((unit_shift(rms, c.dtype) for c in present), key=abs)
            if shift == 0:
                return None
            self.exponent -= shift
            return tuple(None if c is None else c * 2.0**shift for c in cotangents)

        return hook

    def log_square(self, norm: float) -> float:
        """Log of the squared norm before rescaling; -inf for zero, NaN where it is not finite."""
        if not math.isfinite(norm):
            return math.nan
        if norm == 0:
            return -math.inf
        return 2 * (math.log(norm) + self.exponent * math.log(2.0))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """With the reading hooks on the graph's nodes."""
        nodes = [n for n in {self.start, *self.nodes} if n is not None]
        handles = [node.register_prehook(self._read(node)) for node in nodes]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _pull_back(
    forward: Forward, cotangents: list[Tensor], sources: list[Tensor], *, last: bool
) -> list[Tensor]:
    """Gradients at ``sources``; reentrant checkpointing forbids ``grad`` and must go backward.

    The ``last`` pass gives back the activations, while the trace keeps the graph's shape.
    """
    if not forward.reentrant:
        found = torch.autograd.grad(
            forward.outputs, sources, cotangents, retain_graph=not last, allow_unused=True
        )
        return [g for g in found if g is not None]
    for source in sources:
        source.retain_grad()
        source.grad = None
    torch.autograd.backward(forward.outputs, cotangents, retain_graph=not last)
    return [s.grad for s in sources if s.grad is not None]


def probe(
    forward: Forward,
    sources: list[Tensor],
    ladder: Ladder,
    m: int,
    *,
    up_to: int = 0,
    wanted: Callable[[Logs], bool] = lambda _: False,
) -> Logs:
    """Pull ``m`` random cotangents back from the outputs to ``sources``.

    ``up_to`` as many where they are ``wanted`` after all of the ``m`` but the last, which gives
    the activations back.
    """
    arrived: list[list[float]] = []
    sent: list[list[float]] = []
    with ladder.attached():
        while len(arrived) < m:
            last = len(arrived) == m - 1
            if last and m < up_to and m > 2 and wanted(_logs(arrived, sent)):
                m, last = up_to, False
            ladder.exponent, ladder.logs, ladder.fresh = 0, {}, {}
            cotangents = [ladder.draw(t) for t in forward.outputs]
            top = ladder.log_square(joint_norm(cotangents))
            gradients = _pull_back(forward, cotangents, sources, last=last)
            norm = joint_norm(gradients)
            first = ladder.log_square(norm) if ladder.start is None else ladder.logs[ladder.start]
            rest = [
                top if node is None else ladder.logs.get(node, -math.inf) for node in ladder.nodes
            ]
            arrived.append([first, *rest])
            nodes = [ladder.start, *ladder.nodes]
            sent.append(
                [ladder.fresh.get(n, log) for n, log in zip(nodes, arrived[-1], strict=True)]
            )
    return _logs(arrived, sent)


def _logs(arrived: list[list[float]], sent: list[list[float]]) -> Logs:
    return Logs(*(torch.tensor(rows, dtype=torch.float64) for rows in (arrived, sent)))
