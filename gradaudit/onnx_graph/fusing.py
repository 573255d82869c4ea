"""Biases: an addition directly behind a product with a weight becomes the product's own.

Exporters write a dense layer on more than two dimensions as MatMul and Add. As one layer it is
computed by one kernel, and seen as what it is: a weight, its bias, and the nonlinearity behind.
Both nodes stay modules that are called; the second one hands on what the first one made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from onnx import NodeProto
from torch import nn

from gradaudit.onnx_graph.operators.fused import DOMAIN
from gradaudit.onnx_graph.registry import STANDARD

# What the operators of our own are shown as.
SHOWN = {(DOMAIN, "BiasedMatMul"): "MatMul", (DOMAIN, "Passed"): "Add"}


def fused(
    nodes: Sequence[NodeProto],
    parameter: Callable[[str], nn.Parameter | None],
    read_elsewhere: Collection[str],
) -> list[NodeProto]:
    """The same nodes in the same order, with biases where they belong.

    ``read_elsewhere`` are values that are read other than as an input of one of these nodes.
    """
    biases = _biases(nodes, parameter, read_elsewhere)
    sums = {output: product for product, (_, output) in biases.items()}
    made = []
    for node in nodes:
        output = node.output[0] if node.output else ""
        if output in biases:
            inputs = [*node.input, biases[output][0]]
            made.append(_rewritten(node, "BiasedMatMul", inputs))
        elif output in sums:
            made.append(_rewritten(node, "Passed", [sums[output]]))
        else:
            made.append(node)
    return made


def _biases(
    nodes: Sequence[NodeProto],
    parameter: Callable[[str], nn.Parameter | None],
    read_elsewhere: Collection[str],
) -> dict[str, tuple[str, str]]:
    """By a product's output: the bias that alone is added to it, and the sum's name."""
    reads = Counter(name for node in nodes for name in node.input)
    widths = {}
    for node in nodes:
        weight = parameter(node.input[1]) if _is(node, "MatMul") else None
        once = weight is not None and reads[node.output[0]] == 1
        if once and weight is not None and weight.dim() == 2:
            widths[node.output[0]] = weight.shape[1]
    found = {}
    for node in nodes:
        if not _is(node, "Add"):
            continue
        for product, name in (tuple(node.input), tuple(node.input)[::-1]):
            bias = parameter(name)
            alone = product in widths and product not in read_elsewhere
            if alone and bias is not None and bias.shape == (widths[product],):
                found[product] = (name, node.output[0])
    return found


def _is(node: NodeProto, kind: str) -> bool:
    return node.op_type == kind and node.domain in STANDARD and len(node.input) == 2


def _rewritten(node: NodeProto, kind: str, inputs: Sequence[str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    made.op_type, made.domain = kind, DOMAIN
    del made.input[:]
    made.input.extend(inputs)
    return made
