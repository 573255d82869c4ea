"""From a node to its module, with the parameters it reads."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto
from torch import nn

from gradaudit.onnx_graph.attributes import attributes_of
from gradaudit.onnx_graph.fusing import SHOWN
from gradaudit.onnx_graph.graph import Step
from gradaudit.onnx_graph.holding import Builder, Values
from gradaudit.onnx_graph.layers import Asked, Layer, Parameters, layer_of
from gradaudit.onnx_graph.moved import MOVERS, Moved
from gradaudit.onnx_graph.node import Call, Node, node_class, same_types
from gradaudit.onnx_graph.registry import find_operator, plain


def call_of(node: NodeProto, name: str, builder: Builder, values: Values) -> Call:
    """How the node calls its operator; ``name`` is the node's."""
    domain = plain(node.domain)
    version = builder.opsets.get(domain, 1)
    operator = find_operator(domain, node.op_type, version)
    assert operator is not None, f"{node.op_type} was not checked"
    wanted = tuple(each in values.read for each in node.output)
    context = {"opset": version, "wanted": wanted, "outputs": sum(map(bool, node.output))}
    keywords = {
        k: v for k, v in attributes_of(node, builder.read).items() if k in operator.attributes
    }
    keywords |= {word: context[word] for word in operator.context}
    return Call(operator, keywords, name, same_types(node.op_type, domain, version))


def node_step(node: NodeProto, name: str, builder: Builder, values: Values) -> tuple[Node, Step]:
    """The node as a module in the tree, without its subgraphs, and how it is called."""
    domain = plain(node.domain)
    call = call_of(node, name, builder, values)
    moves = domain == "" and node.op_type in MOVERS
    parameters = [None if moves else values.parameter(value) for value in node.input]
    absent = frozenset(i for i, value in enumerate(node.input) if not value)
    moved = [values.moved.get(value) for value in node.input]
    asked = Asked(call.keywords, parameters, absent, moved)
    layer = layer_of(domain, node.op_type, asked) or Layer(nn.Module)
    bindings = _bindings(node, parameters, layer.leaves)
    attributes = {leaf: None for leaf in layer.leaves if leaf and leaf not in bindings}
    kind = SHOWN.get((domain, node.op_type), node.op_type)
    module = node_class(kind, layer.base)(call, bindings, {**layer.attributes, **attributes})
    builder.tree.add_module(name, module)
    for leaf, parameter in zip(bindings, parameters, strict=True):
        if leaf and parameter is not None:
            module.borrow(leaf, builder.names[parameter], parameter)
    for leaf, parameter in layer.made_of.items():
        module.borrow(leaf, builder.names[parameter], parameter)
    module.name_parts(builder.names)
    if moves:
        _note_moves(node, module, values)
    given = [value for value, leaf in zip(node.input, bindings, strict=True) if leaf == ""]
    return module, Step(module, name, tuple(given), tuple(node.output), None, ())


def _bindings(node: NodeProto, parameters: Parameters, leaves: Sequence[str]) -> list[str | None]:
    """By input: the attribute under which a parameter is bound, "" if given, None if absent."""
    bindings: list[str | None] = []
    for i, (value, parameter) in enumerate(zip(node.input, parameters, strict=True)):
        leaf = (leaves[i] if i < len(leaves) else "") or f"input_{i}"
        bindings.append(None if not value else "" if parameter is None else leaf)
    return bindings


def _note_moves(node: NodeProto, module: Node, values: Values) -> None:
    """Remember what the node makes, if all it reads is held or moved, and some is a parameter."""
    sources = [values.source(value) if value else None for value in node.input]
    if any(s is None and value for s, value in zip(sources, node.input, strict=True)):
        return
    if any(True for each in sources if each is not None for _ in each.parameters()):
        for i, output in enumerate(node.output):
            values.moved[output] = Moved((module,), tuple(sources), i)
