"""Dense layers: a product with a weight, and the transpose before and the bias behind it.

Exporters write a dense layer as MatMul and Add, with a Transpose where the weight is not turned
beforehand. As one layer it is computed by one kernel, and seen as what it is: a weight, its bias,
and the nonlinearity behind. The product and the addition stay modules that are called; the second
one hands on what the first one made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from onnx import NodeProto
from torch import nn

from gradaudit.onnx_graph.operators.fused import DOMAIN
from gradaudit.onnx_graph.protos import is_plain, rewritten

# What the operators of our own are shown as.
SHOWN = {
    (DOMAIN, "Dense"): "MatMul",
    (DOMAIN, "BiasedMatMul"): "MatMul",
    (DOMAIN, "Passed"): "Add",
}

_Parameter = Callable[[str], nn.Parameter | None]


@dataclass
class _Product:
    """A MatMul with a weight: the weight's name, whether it is turned, its width, and its bias."""

    weight: str
    turned: bool
    outputs: int
    bias: str = ""
    sum: str = ""  # the value that has the bias in it

    @property
    def kind(self) -> str:
        """The operator of our own that computes it."""
        return "Dense" if self.turned else "BiasedMatMul"


def fused(
    nodes: Sequence[NodeProto], parameter: _Parameter, read_elsewhere: Collection[str]
) -> list[NodeProto]:
    """The nodes in their order, dense layers being one node that computes and others that pass on.

    ``read_elsewhere`` are values that are read other than as an input of one of these nodes.
    """
    reads = Counter(name for node in nodes for name in node.input)
    reads.update(read_elsewhere)
    turned = _turned(nodes, parameter)
    products = _products(nodes, parameter, turned)
    _find_biases(nodes, parameter, products, reads)
    sums = {each.sum: output for output, each in products.items() if each.sum}
    made = []
    for node in nodes:
        output = node.output[0] if node.output else ""
        found = products.get(output)
        if found is not None and (found.turned or found.bias):
            inputs = [node.input[0], found.weight, *filter(None, [found.bias])]
            made.append(rewritten(node, inputs, found.kind, DOMAIN))
            reads[node.input[1]] -= 1
        elif output in sums:
            made.append(rewritten(node, [sums[output]], "Passed", DOMAIN))
        else:
            made.append(node)
    return [node for node in made if not _idle(node, turned, reads)]


def _idle(node: NodeProto, turned: dict[str, str], reads: Counter[str]) -> bool:
    """Whether it turns a weight that nobody reads in this form any more."""
    return len(node.output) == 1 and node.output[0] in turned and not reads[node.output[0]]


def _turned(nodes: Sequence[NodeProto], parameter: _Parameter) -> dict[str, str]:
    """Matrices that are the transpose of a parameter, by the parameter's name."""
    found = {}
    for node in nodes:
        if is_plain(node, "Transpose"):
            weight = parameter(node.input[0])
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [1, 0])
            if weight is not None and weight.dim() == 2 and order == [1, 0]:
                found[node.output[0]] = node.input[0]
    return found


def _products(
    nodes: Sequence[NodeProto], parameter: _Parameter, turned: dict[str, str]
) -> dict[str, _Product]:
    """By output: the products with a matrix that is a parameter, or one turned."""
    found = {}
    for node in nodes:
        if is_plain(node, "MatMul"):
            name = turned.get(node.input[1], node.input[1])
            weight = parameter(name)
            if weight is not None and weight.dim() == 2:
                across = name != node.input[1]
                found[node.output[0]] = _Product(name, across, weight.shape[0 if across else 1])
    return found


def _find_biases(
    nodes: Sequence[NodeProto],
    parameter: _Parameter,
    products: dict[str, _Product],
    reads: Counter[str],
) -> None:
    """Note the parameter that is added to a product, where nobody reads the product without it."""
    for node in nodes:
        if not is_plain(node, "Add"):
            continue
        for product, name in (tuple(node.input), tuple(node.input)[::-1]):
            bias, found = parameter(name), products.get(product)
            if found is None or bias is None or reads[product] != 1:
                continue
            if bias.shape == (found.outputs,):
                found.bias, found.sum = name, node.output[0]
