"""Floating initializers that no training moves: statistics, settings of operators, masks.

A file does not say which of its initializers were parameters. What stands where a setting stands is
none: the exponent of a power, the bounds of a clip, the running statistics of a batch norm. Nor is
a single number without a name of its own, which exporters make of numbers in the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from onnx import GraphProto, ModelProto, NodeProto

from gradaudit.onnx_graph.attributes import subgraphs_of
from gradaudit.onnx_graph.registry import plain

# By operator: the inputs that are settings. An initial state that lies in the file is the zeros
# that torch's layers start from; one that is learned is expanded to the batch before.
_SETTINGS = {
    "Attention": (3,),
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Dropout": (1,),
    "GRU": (5,),
    "LSTM": (5, 6),
    "OneHot": (2,),
    "Pad": (2,),
    "Pow": (1,),
    "QuantizeLinear": (1, 2),
    "RNN": (5,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}
# Names that exporters make up: `val_12`, `onnx::Mul_7`, `31`, `/norm/Constant_output_0`.
_MADE_UP = re.compile(r"val_\d+|onnx::\w+|\d+|.*/.*|.*const.*|scalar_tensor.*", re.IGNORECASE)
_LOOK = 1 << 16  # entries of a tensor looked at at once: most are told by their first


def settings_in(model: ModelProto) -> set[str]:
    """Names of the model's initializers that are settings by where they stand or what they are."""
    found = {
        node.input[i]
        for node in _nodes(model.graph)
        if plain(node.domain) == ""
        for i in _SETTINGS.get(node.op_type, ())
        if i < len(node.input)
    }
    numbers = {
        each.name
        for each in model.graph.initializer
        if not each.dims and _MADE_UP.fullmatch(each.name)
    }
    return found | numbers


def is_mask(tensor: torch.Tensor) -> bool:
    """Whether the tensor hides things where it is added: zeros and numbers without bottom alone."""
    if tensor.element_size() == 1:  # torch does not compare float8
        return False
    lowest, found = torch.finfo(tensor.dtype).min, False
    for part in tensor.flatten().split(_LOOK):
        hidden = part <= lowest / 2
        if not bool(((part == 0) | hidden).all()):
            return False
        found = found or bool(hidden.any())
    return found


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs_of(node).values():
            yield from _nodes(inner)
