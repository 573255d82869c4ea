"""ONNX's own Gradient nodes, which name a value of the graph around them to be differentiated."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto, helper

from gradaudit.onnx_graph.protos import reads, rewritten

_DOMAIN = "ai.onnx.preview.training"


def with_bodies(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The nodes, each Gradient one with a subgraph that makes its ``y`` of its inputs."""
    return [
        _with_body(node, nodes[:i])
        if node.op_type == "Gradient" and node.domain == _DOMAIN
        else node
        for i, node in enumerate(nodes)
    ]


def _with_body(node: NodeProto, before: Sequence[NodeProto]) -> NodeProto:
    attributes = {each.name: each for each in node.attribute}
    listed = [attributes[name].strings for name in ("xs", "zs") if name in attributes]
    inputs = [name.decode() for names in listed for name in names]
    y = attributes["y"].s.decode()
    needed, kept = {y}, []
    for each in reversed(before):
        if needed & set(each.output):
            kept.append(each)
            needed |= set(reads(each)) - set(inputs)
    made = rewritten(node, node.input)
    body = made.attribute.add()
    body.name, body.type = "body", body.GRAPH
    body.g.node.extend(reversed(kept))
    body.g.input.extend(map(helper.make_empty_tensor_value_info, inputs))
    body.g.output.append(helper.make_empty_tensor_value_info(y))
    return made
