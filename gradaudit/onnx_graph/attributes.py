"""A node's attributes as Python values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import AttributeProto, NodeProto

READABLE = frozenset(
    {
        AttributeProto.FLOAT,
        AttributeProto.FLOATS,
        AttributeProto.GRAPH,
        AttributeProto.INT,
        AttributeProto.INTS,
        AttributeProto.SPARSE_TENSOR,
        AttributeProto.STRING,
        AttributeProto.STRINGS,
        AttributeProto.TENSOR,
        AttributeProto.TYPE_PROTO,
    }
)

# The value of a tensor or sparse tensor.
Reader = Callable[[Any], Any]


def attributes_of(node: NodeProto, read: Reader) -> dict[str, Any]:
    """The attributes by name, without subgraphs, all of kinds in ``READABLE``."""
    return {a.name: _value(a, read) for a in node.attribute if a.type != AttributeProto.GRAPH}


def subgraphs_of(node: NodeProto) -> dict[str, Any]:
    """The node's subgraphs, as GraphProtos by attribute."""
    return {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}


def _value(attribute: AttributeProto, read: Reader) -> Any:
    kind = attribute.type
    if kind == AttributeProto.TENSOR:
        return read(attribute.t)
    if kind == AttributeProto.SPARSE_TENSOR:
        return read(attribute.sparse_tensor)
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == AttributeProto.STRINGS:
        return [each.decode("utf-8", "replace") for each in attribute.strings]
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOAT:
        return attribute.f
    return attribute.i if kind == AttributeProto.INT else attribute.tp


def bound(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function's body with references to the call's attributes filled in."""
    if not any(a.ref_attr_name or a.type == AttributeProto.GRAPH for a in node.attribute):
        return node
    made = NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy = made.attribute.add()
            copy.CopyFrom(attribute)
            if attribute.type == AttributeProto.GRAPH:
                filled = [bound(each, given) for each in attribute.g.node]
                del copy.g.node[:]
                copy.g.node.extend(filled)
        elif attribute.ref_attr_name in given:
            copy = made.attribute.add()
            copy.CopyFrom(given[attribute.ref_attr_name])
            copy.name = attribute.name
    return made
