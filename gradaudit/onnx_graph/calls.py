"""The functions that a model brings along: whether they end, and what calling them amounts to.

A call is written out as the function's body, so a small file can ask for endlessly much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from gradaudit.errors import UnreadableFile
from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.protos import (
    Body,
    Key,
    bodies_of,
    called,
    functions_of,
    key_of,
    nodes_within,
    tensors_in,
    tensors_of,
)
from gradaudit.onnx_graph.signatures import is_needed, kind_name
from gradaudit.onnx_graph.stored import declared_bytes
from gradaudit.telling import listed, quoted

DEEPEST = 32  # subgraphs and calls within each other; protobuf itself reads 33 subgraphs
MOST_NODES = 100_000  # that calls are written out as
MOST_BYTES = 1 << 28  # that these nodes carry along
_ENDLESS = "the model is damaged or hostile"


@dataclass
class _Wanted:
    """What a function does with one of its attributes."""

    kind: int
    needed: bool  # by something that is nothing without it
    uses: int


@dataclass
class _Cost:
    """What one call of a function amounts to."""

    nodes: int = 0
    bytes: int = 0
    depth: int = 0
    wanted: dict[str, _Wanted] = field(default_factory=dict)


def reached(model: ModelProto) -> list[FunctionProto]:
    """The functions that are called, from the graph or from each other."""
    functions = functions_of(model)
    found: dict[Key, FunctionProto] = {}
    pending = [model.graph.node]
    while pending:
        for node, _ in nodes_within(pending.pop()):
            key = key_of(node)
            if key in functions and key not in found:
                found[key] = functions[key]
                pending.append(functions[key].node)
    return list(found.values())


def check_depth(nodes: Iterable[NodeProto], where: str) -> None:
    """Raise ``UnreadableFile`` for subgraphs too deep within each other."""
    if any(depth > DEEPEST for _, depth in nodes_within(nodes)):
        raise UnreadableFile(
            f"{where} has subgraphs within each other",
            expected=f"at most {DEEPEST} deep",
            next_step=_ENDLESS,
        )


def check_calls(model: ModelProto) -> None:
    """Raise ``UnreadableFile`` for calls that never end, are too many, or do not fit."""
    functions = functions_of(model)
    if len(functions) < len(model.functions):
        raise UnreadableFile("two functions of the model have the same name")
    costs: dict[Key, _Cost] = {}
    order = _callees_first(functions)
    graph, *bodies = bodies_of(model, [functions[key] for key in order])
    for key, body in zip(order, bodies, strict=True):
        costs[key] = _cost(body, functions, costs)
        costs[key].nodes += sum(1 for _ in nodes_within(body.nodes))
        costs[key].bytes += _size(functions[key], costs[key].wanted)
    total = _cost(graph, functions, costs)
    if total.wanted:
        raise UnreadableFile(
            "a node of the graph refers to a function's attribute",
            found=quoted(next(iter(total.wanted))),
        )
    for wanted, found, most in (
        ("nodes", total.nodes, MOST_NODES),
        ("bytes of constants", total.bytes, MOST_BYTES),
        ("levels", total.depth, DEEPEST),
    ):
        if found > most:
            raise UnreadableFile(
                f"the model's function calls, written out, make too many {wanted}",
                expected=f"at most {most:,}",
                found=f"{found:,}" if found <= 1000 * most else "far more",
                next_step=_ENDLESS,
            )


def _callees_first(functions: Mapping[Key, FunctionProto]) -> list[Key]:
    """The functions, each after those it calls. Raises for one that calls itself."""
    calls = {
        key: {key_of(node) for node, _ in nodes_within(function.node)} & functions.keys()
        for key, function in functions.items()
    }
    callers: dict[Key, list[Key]] = {key: [] for key in functions}
    for key, callees in calls.items():
        for callee in callees:
            callers[callee].append(key)
    left = {key: len(callees) for key, callees in calls.items()}
    order = [key for key, count in left.items() if not count]
    for key in order:  # grows while it is gone through
        for caller in callers[key]:
            left[caller] -= 1
            if not left[caller]:
                order.append(caller)
    if len(order) < len(functions):
        names = [quoted(key[1]) for key in _cycle({k: calls[k] for k in left if left[k]})]
        raise UnreadableFile(
            f"the model's functions call themselves: {listed(names)}", next_step=_ENDLESS
        )
    return order


def _cycle(calls: Mapping[Key, Collection[Key]]) -> list[Key]:
    """One of the cycles in a graph where everything leads on to something."""
    path = dict.fromkeys([next(iter(calls))])
    while True:
        last = next(reversed(path))
        following = next(key for key in calls[last] if key in calls)
        if following in path:
            names = list(path)
            return names[names.index(following) :]
        path[following] = None


def _cost(body: Body, functions: Mapping[Key, FunctionProto], costs: Mapping[Key, _Cost]) -> _Cost:
    """What the calls in ``body`` amount to, and which attributes of its own it refers to."""
    total = _Cost()
    for node, depth in nodes_within(body.nodes):
        key = key_of(node)
        cost = costs.get(key)
        if cost is None:
            total.depth = max(total.depth, depth)
            for attribute in node.attribute:
                if attribute.ref_attr_name:
                    needed = is_needed(node, attribute.name, body)
                    _want(total, attribute, _Wanted(attribute.type, needed, 1), body)
            continue
        _check_call(node, functions[key], cost)
        # capped, as functions that call each other twice count up to 2^N
        total.nodes = min(total.nodes + cost.nodes, 10**9)
        total.bytes = min(total.bytes + cost.bytes, 10**15)
        total.depth = max(total.depth, depth + 1 + cost.depth)
        for attribute in node.attribute:
            wanted = cost.wanted.get(attribute.name)
            if wanted is not None and attribute.ref_attr_name:
                _want(total, attribute, wanted, body)
            elif wanted is not None:
                total.bytes += _weight(attribute) * wanted.uses
    return total


def _want(total: _Cost, attribute: AttributeProto, wanted: _Wanted, body: Body) -> None:
    name = attribute.ref_attr_name
    known = total.wanted.setdefault(name, _Wanted(attribute.type, False, 0))
    if known.kind != wanted.kind or attribute.type == AttributeProto.GRAPH:
        raise UnreadableFile(
            f"{body.where} uses its attribute {quoted(name)} as {kind_name(attribute.type)}",
            expected="numbers, texts or tensors, of one type"
            if known.kind == wanted.kind
            else kind_name(known.kind),
        )
    known.needed |= wanted.needed
    known.uses = min(known.uses + wanted.uses, 10**9)


def _check_call(node: NodeProto, function: FunctionProto, cost: _Cost) -> None:
    where = f"{called(node)}, a call of {quoted(function.name)},"
    for word, given, formal in (
        ("inputs", node.input, function.input),
        ("outputs", node.output, function.output),
    ):
        if len(given) > len(formal):
            raise UnreadableFile(
                f"{where} has too many {word}", expected=f"{len(formal)}", found=f"{len(given)}"
            )
    if subgraphs_of(node):
        raise UnreadableFile(f"{where} hands it a graph", expected="a call without graphs")
    attributes = {each.name: each for each in (*function.attribute_proto, *node.attribute)}
    for name, wanted in cost.wanted.items():
        given = attributes.get(name)
        if given is None and wanted.needed:
            raise UnreadableFile(f"{where} lacks the attribute {quoted(name)}")
        if given is not None and given.type != wanted.kind:
            raise UnreadableFile(
                f"{where} has attribute {quoted(name)} of another type",
                expected=kind_name(wanted.kind),
                found=kind_name(given.type),
            )


def _size(function: FunctionProto, wanted: Mapping[str, _Wanted]) -> int:
    """Bytes that one call of the function copies."""
    size = function.ByteSize() + sum(declared_bytes(t) for _, t in tensors_of(function.node))
    for each in function.attribute_proto:
        size += _weight(each) * (wanted[each.name].uses if each.name in wanted else 0)
    return size


def _weight(attribute: AttributeProto) -> int:
    return attribute.ByteSize() + sum(declared_bytes(t) for _, t in tensors_in(attribute, ""))
