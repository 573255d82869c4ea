"""Finding one's way in ONNX's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
)

from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.registry import plain
from gradaudit.telling import quoted

Key = tuple[str, str, str]
Tensor = TensorProto | SparseTensorProto


class Body(NamedTuple):
    """The main graph's nodes or a function's, and the opset versions they go by."""

    where: str
    nodes: Sequence[NodeProto]
    versions: Mapping[str, int]


def versions_of(imports: Iterable[Any]) -> dict[str, int]:
    """Opset versions by domain."""
    return {plain(each.domain): each.version for each in imports}


def is_plain(node: NodeProto, kind: str) -> bool:
    """Whether it is a node of the standard operator of that name."""
    return node.op_type == kind and plain(node.domain) == ""


def rewritten(
    node: NodeProto, inputs: Sequence[str], kind: str = "", domain: str = ""
) -> NodeProto:
    """A copy that reads ``inputs``; of another operator, if ``kind`` is given."""
    made = NodeProto()
    made.CopyFrom(node)
    made.input[:] = inputs
    if kind:
        made.op_type, made.domain = kind, domain
    return made


def metadata_of(message: Any) -> dict[str, str]:
    """What exporters note down, without what is no UTF-8: that comes out of protobuf as bytes."""
    return {p.key: p.value for p in message.metadata_props if isinstance(p.value, str)}


def key_of(node: NodeProto) -> Key:
    """What a node calls, if that is one of the model's own functions."""
    return node.domain, node.op_type, node.overload


def functions_of(model: ModelProto) -> dict[Key, FunctionProto]:
    """The functions that the model brings along."""
    return {(each.domain, each.name, each.overload): each for each in model.functions}


def bodies_of(model: ModelProto, functions: Iterable[FunctionProto]) -> Iterator[Body]:
    """The main graph, then ``functions``."""
    own = versions_of(model.opset_import)
    yield Body("the graph", model.graph.node, own)
    for each in functions:
        versions = {**own, **versions_of(each.opset_import)}
        yield Body(f"function {quoted(each.name)}", each.node, versions)


def nodes_within(nodes: Iterable[NodeProto]) -> Iterator[tuple[NodeProto, int]]:
    """The nodes and those of all subgraphs, each with how many subgraphs it lies in."""
    pending = [(node, 0) for node in nodes][::-1]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        inner = [each for graph in subgraphs_of(node).values() for each in graph.node]
        pending += [(each, depth + 1) for each in reversed(inner)]


def initializers_of(graph: GraphProto) -> dict[str, Tensor]:
    """The graph's own tensors by name."""
    dense = {each.name: each for each in graph.initializer}
    return dense | {each.values.name: each for each in graph.sparse_initializer}


def tensors_of(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in the nodes, and how a message names it."""
    for node, _ in nodes_within(nodes):
        for each in node.attribute:
            yield from tensors_in(each, called(node))
        for graph in subgraphs_of(node).values():
            for name, tensor in initializers_of(graph).items():
                yield f"initializer {quoted(name)}", tensor


def tensors_in(attribute: AttributeProto, where: str) -> Iterator[tuple[str, Tensor]]:
    """The tensor that an attribute holds, if it does."""
    label = f"attribute {quoted(attribute.name)} of {where}"
    if attribute.ref_attr_name:
        return
    if attribute.type == AttributeProto.TENSOR:
        yield label, attribute.t
    elif attribute.type == AttributeProto.SPARSE_TENSOR:
        yield label, attribute.sparse_tensor


def free_names(graph: GraphProto) -> list[str]:
    """Values that a subgraph reads and does not make, in order of their first use."""
    made = {*(each.name for each in graph.input), *initializers_of(graph)}
    free: dict[str, None] = {}
    for node in graph.node:
        free |= {name: None for name in reads(node) if name not in made}
        made.update(node.output)
    free |= {each.name: None for each in graph.output if each.name not in made}
    return list(free)


def captured(node: NodeProto) -> list[str]:
    """Values that the node's subgraphs take from around."""
    return [name for graph in subgraphs_of(node).values() for name in free_names(graph)]


def reads(node: NodeProto) -> list[str]:
    """Values that the node and its subgraphs take from around."""
    return [name for name in (*node.input, *captured(node)) if name]


def called(node: NodeProto) -> str:
    """How a message names a node."""
    if node.name or not any(node.output):
        return f"node {quoted(node.name or node.op_type)}"
    return f"the node that makes {quoted(next(filter(None, node.output)))}"
