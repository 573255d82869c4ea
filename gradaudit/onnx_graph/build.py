"""From a checked ModelProto to a :class:`Graph`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto
from torch import nn

from gradaudit.onnx_graph.attributes import Reader, attributes_of, bound, subgraphs_of
from gradaudit.onnx_graph.graph import Graph, Step
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.node import Call, Node, node_class, same_types
from gradaudit.onnx_graph.protos import (
    Key,
    free_names,
    functions_of,
    initializers_of,
    key_of,
    plain,
    versions_of,
)
from gradaudit.onnx_graph.registry import find_operator


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
class _Builder:
    """What the graphs of one model share."""

    tree: Tree
    read: Reader
    frozen: Collection[str]
    opsets: Mapping[str, int]
    functions: Mapping[Key, FunctionProto]

    def hold(self, name: str, value: Any, *, constant: bool = False) -> Held:
        """Place a value under ``name``; a constant is not in the state dict."""
        if not isinstance(value, torch.Tensor):
            keeper = nn.Module()
            vars(keeper)["value"] = value
            return Held(keeper, "value")
        if value.is_floating_point() and not constant:
            parameter = nn.Parameter(value, requires_grad=name not in self.frozen)
            return Held(*self.tree.add_parameter(name, parameter))
        return Held(*self.tree.add_buffer(name, value, persistent=not constant))


def build(model: ModelProto, read: Reader, frozen: Collection[str] = ()) -> Graph:
    """The model's graph; ``read`` gives the value of a stored tensor.

    Floating initializers become parameters, of which those in ``frozen`` require no gradient; all
    others buffers. The model must have passed :mod:`gradaudit.onnx_graph.checks`.
    """
    graph = model.graph
    own = initializers_of(graph)
    root = Graph(
        [each.name for each in graph.input if each.name not in own],
        [each.name for each in graph.output],
    )
    builder = _Builder(
        Tree(root),
        read,
        frozenset(frozen),
        versions_of(model.opset_import),
        functions_of(model),
    )
    _fill(root, graph.node, builder, _initializers(graph, builder), "")
    return root


def _initializers(graph: GraphProto, builder: _Builder) -> dict[str, Held]:
    own = initializers_of(graph)
    return {name: builder.hold(name, builder.read(each)) for name, each in own.items()}


def _fill(
    graph: Graph,
    nodes: Sequence[NodeProto],
    builder: _Builder,
    visible: dict[str, Held],
    prefix: str,
) -> None:
    """Give ``graph`` its steps, one a node; ``visible`` are the values held in the tree."""
    steps = []
    for number, node in enumerate(nodes):
        name = prefix + (node.name or f"{node.op_type}_{number}")
        if node.op_type == "Constant" and plain(node.domain) == "":
            value = _constant(*next(iter(attributes_of(node, builder.read).items())))
            visible[node.output[0]] = builder.hold(node.output[0], value, constant=True)
        else:
            steps.append(_step(node, name, builder, visible))
    graph.set_steps(_with_ends(steps, graph.output_names))
    read = {n for s in steps for n in (*s.inputs, *(s.captures or ()))} | set(graph.output_names)
    graph.set_held({n: (h.home, h.leaf) for n, h in visible.items() if n in read})


def _constant(attribute: str, value: Any) -> Any:
    """What a Constant node holds, by the one attribute it has."""
    if attribute in ("value", "sparse_value"):
        return value
    if attribute.startswith("value_string"):
        return np.array(value, dtype=object)
    floating = attribute.startswith("value_float")
    return torch.tensor(value, dtype=torch.float32 if floating else torch.int64)


def _step(node: NodeProto, name: str, builder: _Builder, visible: dict[str, Held]) -> Step:
    function = builder.functions.get(key_of(node))
    if function is not None:
        return _function(node, function, name, builder, visible)
    version = builder.opsets.get(plain(node.domain), 1)
    operator = find_operator(node.domain, node.op_type, version)
    assert operator is not None, f"{node.op_type} was not checked"
    attributes = attributes_of(node, builder.read)
    context = {"opset": version, "wanted": tuple(bool(each) for each in node.output)}
    keywords = {k: v for k, v in attributes.items() if k in operator.attributes}
    keywords |= {word: context[word] for word in operator.context}
    call = Call(operator, keywords, name, same_types(node.op_type, plain(node.domain), version))
    module = node_class(node.op_type)(call, _bindings(node, visible))
    path = builder.tree.add_module(name, module)
    _borrow(module, node, visible)
    captures = _subgraphs(module, node, path, builder, visible)
    return Step(module, name, _given(node.input, module), tuple(node.output), captures, ())


def _bindings(node: NodeProto, visible: Mapping[str, Held]) -> list[str | None]:
    """By input: the attribute under which a parameter is bound, "" if given, None if absent."""
    bindings: list[str | None] = []
    for i, value in enumerate(node.input):
        held = visible.get(value)
        parameter = None if held is None else held.parameter
        bindings.append(None if not value else "" if parameter is None else f"input_{i}")
    return bindings


def _borrow(module: Node, node: NodeProto, visible: Mapping[str, Held]) -> None:
    for value, leaf in zip(node.input, module.inputs, strict=True):
        if leaf:
            module.borrow(leaf, visible[value].parameter)


def _given(inputs: Sequence[str], module: Node) -> tuple[str, ...]:
    return tuple(n for n, bound in zip(inputs, module.inputs, strict=True) if bound == "")


def _subgraphs(
    module: Node, node: NodeProto, path: str, builder: _Builder, visible: dict[str, Held]
) -> tuple[str, ...] | None:
    """Add the node's subgraphs to its module; what they read from around, if there are any."""
    captures: dict[str, None] = {}
    protos = subgraphs_of(node)
    for attribute, proto in protos.items():
        inner = Graph([each.name for each in proto.input], [each.name for each in proto.output])
        module.add_module(attribute, inner)
        module.bodies += (attribute,)
        free = free_names(proto)
        captures |= {name: None for name in free if name not in visible}
        within = {name: visible[name] for name in free if name in visible}
        within |= _initializers(proto, builder)
        for each in inner.input_names:
            within.pop(each, None)
        _fill(inner, proto.node, builder, within, f"{path}.{attribute}.")
    return tuple(captures) if protos else None


def _function(
    node: NodeProto,
    function: FunctionProto,
    name: str,
    builder: _Builder,
    visible: dict[str, Held],
) -> Step:
    """A call of a function that the model brings along: its body, as a graph of its own."""
    actual = dict(zip(function.input, (*node.input, *[""] * len(function.input)), strict=False))
    given = {formal: value for formal, value in actual.items() if value and value not in visible}
    inner = Graph(list(given), list(function.output))
    path = builder.tree.add_module(name, inner)
    within = {f: visible[a] for f, a in actual.items() if a in visible}
    within |= {f: builder.hold(f, None) for f, a in actual.items() if not a}
    attributes = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
    nodes = [bound(each, attributes) for each in function.node]
    own = replace(builder, opsets={**builder.opsets, **versions_of(function.opset_import)})
    _fill(inner, nodes, own, within, f"{path}.")
    outputs = tuple(node.output) + ("",) * (len(function.output) - len(node.output))
    return Step(inner, name, tuple(given.values()), outputs, None, ())


def _with_ends(steps: Sequence[Step], outputs: Sequence[str]) -> list[Step]:
    """The steps, each with the values nobody reads after it."""
    needed = set(outputs)
    ended: list[Step] = []
    for step in reversed(steps):
        reads = {*step.inputs, *(step.captures or ())}
        kept = tuple(name if name in needed else "" for name in step.outputs)
        ended.append(replace(step, outputs=kept, done_with=tuple(sorted(reads - needed))))
        needed |= reads
    return ended[::-1]
