"""Nodes whose values the file alone tells: constants, and small shapes worked out from them.

An export without constant folding writes a shape like (0, 0, 8, -1) as a dozen nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from onnx import NodeProto

from gradaudit.onnx_graph.attributes import attributes_of
from gradaudit.onnx_graph.constants import weights_in
from gradaudit.onnx_graph.gelus import Number
from gradaudit.onnx_graph.holding import Builder, Values, constant
from gradaudit.onnx_graph.node import Node, NodeError
from gradaudit.onnx_graph.protos import is_plain, key_of
from gradaudit.onnx_graph.registry import plain
from gradaudit.onnx_graph.steps import call_of

# Their results are no larger than the product of their inputs' sizes.
_CHEAP = frozenset(
    {
        *("Add", "Cast", "Concat", "Div", "Gather", "Mod", "Mul"),
        *("Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze"),
    }
)
_MOST = 64  # entries


def known(node: NodeProto, name: str, builder: Builder, values: Values) -> Any:
    """The one value that the node makes of constants; ``None`` if it is to be called."""
    if plain(node.domain) or key_of(node) in builder.functions:
        return None
    if node.op_type == "Constant":
        return _constant(node, builder)
    if node.op_type not in _CHEAP or len(node.output) != 1:
        return None
    inputs = [values.constant(each) for each in node.input if each]
    if not inputs or any(each is None or _is_large(each) for each in inputs):
        return None
    given = iter(inputs)
    try:
        call = call_of(node, name, builder, values)
        made = Node(call, (), {}).compute([next(given) if e else None for e in node.input], None)
    except NodeError:  # as it will say when the graph runs
        return None
    return None if _is_large(made) else made


def numbers_in(nodes: Iterable[NodeProto], builder: Builder, values: Values) -> Number:
    """The value of what is a single number: of a Constant node, or held and not trained."""
    makers = {node.output[0]: node for node in nodes if is_plain(node, "Constant")}

    def number(name: str) -> float | None:
        value = _constant(makers[name], builder) if name in makers else values.untrained(name)
        single = isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
        return float(value.detach()) if single else None

    return number


def without_weights(
    nodes: Sequence[NodeProto], builder: Builder, values: Values
) -> list[NodeProto]:
    """The nodes but for those that hold a weight, as some tools write them: it is a parameter."""
    weights, maybe = (weights_in(nodes, matrices=matrices) for matrices in (False, True))
    kept = []
    for node in nodes:
        name = node.output[0] if node.output else ""
        stored = is_plain(node, "Constant") and name in maybe
        value = _constant(node, builder) if stored else None
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kept.append(node)
        elif _varies(value) and (name in weights or value.dim() == 2):
            values.held[name] = builder.hold(name, value)
        else:
            kept.append(node)
    return kept


def _varies(value: torch.Tensor) -> bool:
    """Scales of ones and biases of zeros, as exporters write for what has none, are no weights."""
    return bool((value != value.flatten()[:1]).any())


def _constant(node: NodeProto, builder: Builder) -> Any:
    return constant(*next(iter(attributes_of(node, builder.read).items())))


def _is_large(value: Any) -> bool:
    """Whether it is anything else than a few whole numbers."""
    if not isinstance(value, torch.Tensor) or value.is_floating_point() or value.is_complex():
        return True
    return value.numel() > _MOST
