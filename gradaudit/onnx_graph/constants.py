"""Floating initializers that no training moves: statistics, settings of operators, masks.

A file does not say which of its initializers were parameters. What stands where a setting stands is
none: the exponent of a power, the bounds of a clip, the running statistics of a batch norm. Nor is
a single number without a name of its own, which exporters make of numbers in the code. The newer of
torch's exporters does say which were buffers, and what it computed from others beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from onnx import GraphProto, NodeProto

from gradaudit.onnx_graph.protos import metadata_of, nodes_within
from gradaudit.onnx_graph.registry import plain

# By operator: the inputs that are settings. An initial state that lies in the file is the zeros
# that torch's layers start from; one that is learned is expanded to the batch before.
SETTINGS = {
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
# By operator: the inputs that are weights, also where a file has them in Constant nodes.
WEIGHTS = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "RNN": (1, 2, 3),
}
MATRICES = {"Gather": (0,), "MatMul": (1,)}  # weights where they have two dimensions
# Names that exporters make up: `val_12`, `onnx::Mul_7`, `31`, `/norm/Constant_output_0`.
_MADE_UP = re.compile(
    r"val_\d+|onnx::\w+|\d+|(.*/)?const(ant)?(_\d+)?(_output_\d+)?|scalar_tensor.*", re.IGNORECASE
)
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_TARGET = re.compile(r"^\S+: (PARAMETER|BUFFER) target='([^'\n]*)'", re.MULTILINE)
_FOLDED, _QUOTED = "pkg.onnxscript.optimizer.folded_from", re.compile(r"'([^']*)'")
# What torch calls a tensor that code fills with a number.
_FILLED = re.compile(r"(zeros|ones|full)(_like)?(_\d+)?")
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LOOK = 1 << 16  # entries of a tensor looked at at once: most are told by their first


def settings_in(graph: GraphProto, nodes: Iterable[NodeProto]) -> set[str]:
    """Names of the graph's initializers that are settings by where they stand or what they are.

    ``nodes`` are the graph's, as they are read.
    """
    inside = [node for node, _ in nodes_within(nodes) if plain(node.domain) == ""]
    numbers = {
        each.name
        for each in graph.initializer
        if list(each.dims) in ([], [1]) and _MADE_UP.fullmatch(each.name)
    }
    numbers -= weights_in(inside, matrices=True) | _biases(inside)
    return _read_at(inside, SETTINGS) | numbers | _told(graph)


def _biases(nodes: Iterable[NodeProto]) -> set[str]:
    """Values that are added to the product with a weight."""
    products = {output for node in nodes if node.op_type in _PRODUCTS for output in node.output}
    sums = [node for node in nodes if node.op_type == "Add" and products & set(node.input)]
    return {name for node in sums for name in node.input} - products


def is_filled(name: str, tensor: torch.Tensor) -> bool:
    """Whether the tensor is what code filled with a number, by torch's name for such and values."""
    if not _FILLED.fullmatch(name) or not tensor.numel() or tensor.element_size() == 1:
        return False
    return bool((tensor == tensor.flatten()[0]).all())


def weights_in(nodes: Iterable[NodeProto], *, matrices: bool) -> set[str]:
    """Values that one of these nodes reads as a weight; ``matrices``: if they are matrices."""
    return _read_at(nodes, {**WEIGHTS, **MATRICES} if matrices else WEIGHTS)


def _read_at(nodes: Iterable[NodeProto], table: Mapping[str, Sequence[int]]) -> set[str]:
    """What nodes read as the inputs that ``table`` numbers by operator."""
    return {
        node.input[i]
        for node in nodes
        if plain(node.domain) == ""
        for i in table.get(node.op_type, ())
        if i < len(node.input)
    }


def _told(graph: GraphProto) -> set[str]:
    """Initializers that were buffers, or were computed beforehand from no parameter."""
    signature = metadata_of(graph).get(_SIGNATURE, "")
    kinds = {name: kind for kind, name in _TARGET.findall(signature)}
    parameters = {name for name, kind in kinds.items() if kind == "PARAMETER"}
    found = {name for name, kind in kinds.items() if kind == "BUFFER"} - parameters
    for each in graph.value_info if parameters else ():
        sources = set(_QUOTED.findall(metadata_of(each).get(_FOLDED, "")))
        if sources and not sources & parameters and each.name not in parameters:
            found.add(each.name)
    return found


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
