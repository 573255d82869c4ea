"""From a checked ModelProto to a :class:`Graph`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from gradaudit.onnx_graph.attributes import Reader, bound, subgraphs_of
from gradaudit.onnx_graph.constant_nodes import known, numbers_in, without_weights
from gradaudit.onnx_graph.constants import settings_in
from gradaudit.onnx_graph.declared import declared_inputs
from gradaudit.onnx_graph.export_notes import export_notes
from gradaudit.onnx_graph.fusing import fused
from gradaudit.onnx_graph.gelus import with_gelus
from gradaudit.onnx_graph.gradient_nodes import with_bodies
from gradaudit.onnx_graph.graph import Graph, Step
from gradaudit.onnx_graph.holding import Builder, Held, Values, initializers
from gradaudit.onnx_graph.merged import parted
from gradaudit.onnx_graph.module_calls import Caller, finish
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.node import Node
from gradaudit.onnx_graph.protos import (
    captured,
    free_names,
    functions_of,
    initializers_of,
    key_of,
    versions_of,
)
from gradaudit.onnx_graph.scopes import class_names, runs, scopes_of
from gradaudit.onnx_graph.steps import node_step
from gradaudit.onnx_graph.tensors import declared_type


def build(model: ModelProto, read: Reader, frozen: Collection[str] = ()) -> Graph:
    """The model's graph; ``read`` gives the value of an initializer.

    Floating initializers become parameters, of which those in ``frozen`` and those that no training
    moves (:mod:`gradaudit.onnx_graph.constants`) require no gradient; all others become buffers.
    The model must have passed :mod:`gradaudit.onnx_graph.checks`.
    """
    graph = model.graph
    inputs = declared_inputs(graph)
    root = Graph([each.name for each in inputs], [each.name for each in graph.output])
    root.declared = inputs
    apart = parted(graph)
    builder = Builder(
        Tree(root),
        read,
        settings_in(graph, apart.nodes) | apart.settings.keys() | set(frozen),
        versions_of(model.opset_import),
        functions_of(model),
    )
    held, own = initializers(graph, builder), initializers_of(graph)
    for name, source in apart.settings.items():
        held[name] = builder.hold(name, read(own[source]))
    _fill(root, apart.nodes, builder, Values(held), "")
    root.notes = export_notes(root)
    return root


def _fill(
    graph: Graph, nodes: Sequence[NodeProto], builder: Builder, values: Values, prefix: str
) -> None:
    """Give ``graph`` its steps; ``values`` are those held in the tree."""
    steps, called = [], []
    nodes = without_weights(with_bodies(nodes), builder, values)
    read_elsewhere = {*graph.output_names, *(n for node in nodes for n in captured(node))}
    nodes = with_gelus(nodes, numbers_in(nodes, builder, values), read_elsewhere)
    nodes = fused(nodes, values.parameter, read_elsewhere)
    values.read.update(read_elsewhere, *(node.input for node in nodes))
    for number, node in enumerate(nodes):
        name = prefix + (node.name or f"{node.op_type}_{number}")
        value = known(node, name, builder, values)
        if value is not None:
            values.held[node.output[0]] = builder.hold(node.output[0], value, constant=True)
            continue
        steps.append(_step(node, name, builder, values))
        called.append(node)
    found = runs(scopes_of(called))
    caller = Caller(steps, class_names(found), builder.tree, values)
    finish(graph, caller.called(found, set(graph.output_names)), values)


def _step(node: NodeProto, name: str, builder: Builder, values: Values) -> Step:
    function = builder.functions.get(key_of(node))
    if function is not None:
        return _function(node, function, name, builder, values)
    module, step = node_step(node, name, builder, values)
    graphs = subgraphs_of(node)
    if not graphs:
        return step
    captures: dict[str, None] = {}
    for attribute, proto in graphs.items():
        captures |= dict.fromkeys(_subgraph(module, attribute, proto, builder, values))
    return replace(step, captures=tuple(captures))


def _subgraph(
    module: Node, attribute: str, proto: GraphProto, builder: Builder, values: Values
) -> list[str]:
    """Add a subgraph to its node's module; the values it reads from around."""
    inner = Graph(
        [each.name for each in proto.input],
        [each.name for each in proto.output],
        [declared_type(each) for each in proto.output],
    )
    module.add_module(attribute, inner)
    module.bodies += (attribute,)
    free = free_names(proto)
    within = {name: values.held[name] for name in free if name in values.held}
    within |= initializers(proto, builder)
    for each in inner.input_names:
        within.pop(each, None)
    _fill(inner, proto.node, builder, Values(within), f"{module.call.name}.{attribute}.")
    return [name for name in free if name not in values.held]


def _function(
    node: NodeProto, function: FunctionProto, name: str, builder: Builder, values: Values
) -> Step:
    """A call of a function that the model brings along: its body, as a graph of its own."""
    actual = dict(zip(function.input, (*node.input, *[""] * len(function.input)), strict=False))
    given = {formal: v for formal, v in actual.items() if v and v not in values.held}
    inner = Graph(list(given), list(function.output))
    path = builder.tree.add_module(name, inner)
    within: dict[str, Held] = {f: values.held[a] for f, a in actual.items() if a in values.held}
    within |= {f: builder.hold(f, None) for f, a in actual.items() if not a}
    attributes = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
    nodes = [bound(each, attributes) for each in function.node]
    own = replace(builder, opsets={**builder.opsets, **versions_of(function.opset_import)})
    _fill(inner, nodes, own, Values(within), f"{path}.")
    outputs = tuple(node.output) + ("",) * (len(function.output) - len(node.output))
    return Step(inner, name, tuple(given.values()), outputs, None, ())
