"""The trunk: the chain of tensors all gradients pass, cut into stages.

Dominators of the output (see :mod:`gradaudit.probes.graph`) are kept whether or not a module
returned them, and named after the nearest module call. Dominators inside one block (a module call
that joins parallel paths) merge with the block; a stage without a weight joins the weighted one
before it. So a plain net has one stage per layer and a residual net one per block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gradaudit.probes.graph import Graph
from gradaudit.probes.segments import Cutter, Segment
from gradaudit.probes.trace import Call, Op, Trace
from gradaudit.subject.places import places

# A module call that joins more weighted branches than a decoder layer has (self-attention,
# cross-attention, feed-forward) is a stack of blocks, not a block.
_MOST_JOINS_IN_A_BLOCK = 3
_NO_TRUNK = (
    "parallel paths run past most of the weights, so no tensor carries the whole gradient; "
    "module calls are listed in execution order instead"
)


@dataclass(frozen=True)
class Stage:
    """One stage, from the tensor ``start`` (``None``: the sources) to the tensor ``end``."""

    start: Op | None
    end: Op | None  # None: the outputs together, where there are several
    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    residual: bool


@dataclass(frozen=True)
class Trunk:
    """Stages in forward order, or why there are none."""

    stages: tuple[Stage, ...]
    found: bool
    starts_hidden: bool  # the path starts at an embedding, not at the raw input
    why: str = ""


def _tangled(cutter: Cutter, segments: list[Segment]) -> bool:
    """Whether most weights lie where several concatenations of long paths nest (U-Net, DenseNet).

    Concatenations of paths without weights (rotary embeddings, attention heads) do not count.
    """
    inside, graph = 0, cutter.graph
    for segment in segments:
        joins = 0
        for node in segment.region:
            if node.name() == "CatBackward0" and graph.merges(node):
                joins += bool(cutter.parameters(graph.joined_from(node))[1])
        inside += len(segment.weights) if joins > 1 else 0
    return inside > 0 and 2 * inside >= sum(len(s.weights) for s in segments)


def _block_of(call: Call | None, model: nn.Module, joins: Mapping[Call, int]) -> Call | None:
    """The module call a join belongs to: the outermost repeated one, else the one that joins."""
    if call is None or not call.module:
        return None
    block = call if joins[call] <= _MOST_JOINS_IN_A_BLOCK or _repeated(call, model) else None
    for around in call.ancestors():
        few = sum(n for c, n in joins.items() if around in c.ancestors()) <= _MOST_JOINS_IN_A_BLOCK
        if around.module and few and _repeated(around, model):
            block = around
    return block


def _repeated(call: Call, model: nn.Module) -> bool:
    """Whether the module is one of several of its class side by side, and no mere container."""
    if call.type in {"Sequential", "ModuleList", "ModuleDict"}:
        return False
    parent = model.get_submodule(call.module.rpartition(".")[0])
    kinds = Counter(type(child).__name__ for child in parent.children())
    return kinds[call.type] > 1


def _merge_blocks(segments: list[Segment], model: nn.Module) -> list[Segment]:
    """Merge the segments that lie within one call of one block."""
    joins: Counter[Call] = Counter(
        s.end.call for s in segments if s.joined and s.weights and s.end and s.end.call
    )
    blocks = {call: block for call in joins if (block := _block_of(call, model, joins)) is not None}
    inside = list(dict.fromkeys(blocks.values()))
    merged: list[Segment] = []
    owner_before: Call | None = None
    for segment in segments:
        owner = next(
            (b for b in inside if segment.end and b.first <= segment.end.ordinal <= b.last), None
        )
        if merged and owner is not None and owner is owner_before:
            merged[-1].absorb(segment)
        else:
            merged.append(segment)
        owner_before = owner
    return merged


def _merge_weightless(segments: list[Segment]) -> list[Segment]:
    """Join each stage without a weight to the weighted one before it.

    At the start, and behind a residual block, it joins the one after it where there is one: the
    stream ends where its final norm or pooling begins, which undoes the stream's scale and so is
    part of the head.
    """
    merged: list[Segment] = []
    for segment in segments:
        before = merged[-1] if merged else None
        if before is None or (before.weights and (segment.weights or before.joined)):
            merged.append(segment)
        else:
            before.absorb(segment)
    if len(merged) > 1 and not merged[-1].weights:
        merged[-2].absorb(merged.pop())
    return merged


def _stage(segment: Segment, cutter: Cutter) -> Stage:
    """Name a segment after its block, else its first weighted module."""
    modules = cutter.modules(segment.region)
    owners = [owner for p in segment.weights if (owner := cutter.owner(p))]
    end = segment.end.call.module if segment.end and segment.end.call else ""
    name = _common_prefix(owners) or end or (owners or modules or ["output"])[0]
    return Stage(
        segment.start,
        segment.end,
        name,
        tuple(modules or sorted(set(owners))),
        tuple(segment.parameters),
        segment.joined,
    )


def _common_prefix(names: list[str]) -> str:
    """Longest dotted prefix shared by all names."""
    if not names:
        return ""
    shared = names[0].split(".")
    for name in names[1:]:
        parts = name.split(".")
        same = [a for a, b in zip(shared, parts, strict=False) if a == b]
        shared = shared[: len(same)] if shared[: len(same)] == same else []
    return ".".join(shared)


def find_trunk(
    model: nn.Module, trace: Trace, sources: list[Any], outputs: list[Tensor], *, embedded: bool
) -> tuple[Trunk, Graph]:
    """Cut the graph between ``sources`` (autograd nodes) and ``outputs`` into stages.

    ``embedded``: the sources are embedding outputs; the path starts where the stream does, behind
    the sum of the tables and their norm.
    """
    graph = Graph.of(sources, outputs)
    if not graph.connected:
        return Trunk((), False, embedded, "the output does not depend on the input"), graph
    kept = _trunk_tensors(trace, graph)
    if not kept:
        return Trunk((), False, embedded, _NO_TRUNK), graph
    cutter = Cutter(model, trace, graph)
    ends: list[Op | None] = list(kept)
    if len(graph.sinks) > 1 or kept[-1].node is not graph.sinks[0]:
        ends.append(None)
    starts: list[Op | None] = [None, *ends[:-1]]
    segments = [cutter.segment(a, b) for a, b in zip(starts, ends, strict=True)]
    if _tangled(cutter, segments):
        return Trunk((), False, embedded, _NO_TRUNK), graph
    segments = _merge_blocks(segments, model)
    while embedded and len(segments) > 1 and not segments[0].weights:
        del segments[0]
    segments = _merge_weightless(segments)
    return Trunk(tuple(_stage(s, cutter) for s in segments), True, embedded), graph


def _trunk_tensors(trace: Trace, graph: Graph) -> list[Op]:
    """The recorded tensors that every path passes; of a split no one result is such."""
    by_result = trace.by_result()
    kept = []
    for node in graph.dominators():
        used = graph.used_results(node)
        op = by_result.get((node, next(iter(used)))) if len(used) == 1 else None
        if op is not None and node not in graph.sources:
            kept.append(op)
    return kept


def module_chain(model: nn.Module, trace: Trace, graph: Graph) -> tuple[Stage, ...]:
    """Without a trunk: the weighted leaf module calls in execution order, as rows of their own."""
    owned: dict[str, list[str]] = {}
    for place in places(model):
        owned.setdefault(place.module, []).append(place.name)
    owners = {place.module for place in places(model) if place.parameter.dim() >= 2}
    rows: dict[Call, Op] = {}
    for op in trace.ops:
        if op.call and op.call.module in owners and op.node is not None and op.node in graph:
            rows[op.call] = op
    ordered = sorted(rows.values(), key=lambda op: op.ordinal)
    befores: list[Op | None] = [None, *ordered[:-1]]
    return tuple(
        Stage(before, op, op.call.module, (op.call.module,), tuple(owned[op.call.module]), False)
        for before, op in zip(befores, ordered, strict=True)
        if op.call is not None
    )
