"""A node's attributes as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import AttributeProto, NodeProto, numpy_helper

from gradaudit.onnx_graph.tensors import from_numpy

_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes by name, without subgraphs; tensors as torch's.

    Raises ``TypeError`` for a tensor of a type that torch does not carry.
    """
    return {a.name: _value(a) for a in node.attribute if a.type not in _GRAPHS}


def subgraphs_of(node: NodeProto) -> dict[str, Any]:
    """The node's subgraphs, as GraphProtos by attribute."""
    return {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}


def _value(attribute: AttributeProto) -> Any:
    kind = attribute.type
    if kind == AttributeProto.TENSOR:
        return from_numpy(numpy_helper.to_array(attribute.t))
    if kind == AttributeProto.SPARSE_TENSOR:
        return sparse(attribute.sparse_tensor)
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
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.TYPE_PROTO:
        return attribute.tp
    raise TypeError(f"attributes of kind {AttributeProto.AttributeType.Name(kind)}")


def sparse(proto: Any) -> Any:
    """A sparse tensor, made dense."""
    import torch

    values = from_numpy(numpy_helper.to_array(proto.values))
    indices = torch.from_numpy(numpy_helper.to_array(proto.indices).copy())
    dense = values.new_zeros(tuple(proto.dims))
    if indices.dim() == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.flatten()[indices] = values
    return dense


def bound(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function's body with references to the call's attributes filled in."""
    if not any(a.ref_attr_name or a.type in _GRAPHS for a in node.attribute):
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
