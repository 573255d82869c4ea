"""Equal initializers, of which exporters make one, where that mixes up what they are for.

A new net's biases are the zeros that its batch norms' running means are as well, so that an export
reads both from one tensor: directly, or through an Identity. But one is trained and the other not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from onnx import GraphProto, NodeProto

from gradaudit.onnx_graph.constants import SETTINGS
from gradaudit.onnx_graph.protos import captured, initializers_of, is_plain, rewritten
from gradaudit.onnx_graph.registry import plain


@dataclass(frozen=True)
class Parted:
    """The nodes; and by the name that a setting is read under now, the initializer it is."""

    nodes: tuple[NodeProto, ...]
    settings: Mapping[str, str]


def parted(graph: GraphProto) -> Parted:
    """The graph's nodes without an Identity of an initializer, settings under names of their own.

    An initializer that is a setting of one node and something else elsewhere has its name there.
    """
    own = initializers_of(graph).keys()
    pinned = {each.name for each in graph.output} | {n for e in graph.node for n in captured(e)}
    same: dict[str, str] = {}  # what is an initializer under another name
    kept = []
    for node in graph.node:
        source = same.get(node.input[0], node.input[0]) if is_plain(node, "Identity") else ""
        if source in own and node.output[0] not in pinned:
            same[node.output[0]] = source
        else:
            kept.append(node)
    mixed = own & (pinned | {same.get(name, name) for name in _trained(kept)})
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | own
    apart = {name: _free(f"{name}_as_setting", taken) for name in mixed}
    settings: dict[str, str] = {}
    nodes = tuple(_renamed(node, same, apart, settings) for node in kept)
    return Parted(nodes, settings)


def _places(node: NodeProto) -> tuple[int, ...]:
    return SETTINGS.get(node.op_type, ()) if plain(node.domain) == "" else ()


def _trained(nodes: Iterable[NodeProto]) -> set[str]:
    """Values that are read elsewhere than as a setting."""
    return {n for node in nodes for i, n in enumerate(node.input) if i not in _places(node)}


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _renamed(
    node: NodeProto, same: Mapping[str, str], apart: Mapping[str, str], settings: dict[str, str]
) -> NodeProto:
    inputs = [same.get(name, name) for name in node.input]
    for i in _places(node):
        if i < len(inputs) and inputs[i] in apart:
            name = node.input[i] if node.input[i] in same else apart[inputs[i]]
            settings[name] = inputs[i]
            inputs[i] = name
    return node if inputs == list(node.input) else rewritten(node, inputs)
