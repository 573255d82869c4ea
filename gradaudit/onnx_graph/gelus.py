"""GELU written out, ``x (1 + erf(x / sqrt 2)) / 2``, as exporters do before opset 20.

It is computed, and seen, as the one nonlinearity it is, at the last of its five nodes; the others
are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from onnx import NodeProto

from gradaudit.onnx_graph.operators.fused import DOMAIN
from gradaudit.onnx_graph.protos import is_plain, rewritten

Number = Callable[[str], float | None]  # the value of a constant that is a single number


def with_gelus(
    nodes: Sequence[NodeProto], number: Number, read_elsewhere: Collection[str]
) -> list[NodeProto]:
    """The nodes, each written-out GELU being one; ``read_elsewhere`` as for :func:`fused`."""
    if not any(is_plain(node, "Erf") for node in nodes):
        return list(nodes)
    search = _Search(nodes, number, read_elsewhere)
    inputs: dict[str, str] = {}  # by the output of a GELU's last node
    gone: set[str] = set()
    for node in nodes:
        found = search.gelu(node) if is_plain(node, "Erf") else None
        if found is not None:
            x, chain = found
            inputs[chain[-1]] = x
            gone.update(chain[:-1])
    kept = [node for node in nodes if not gone.intersection(node.output)]
    return [
        rewritten(node, [inputs[node.output[0]]], "Gelu", DOMAIN)
        if node.output and node.output[0] in inputs
        else node
        for node in kept
    ]


class _Search:
    """Follows values through nodes that nobody else looks at."""

    def __init__(
        self, nodes: Sequence[NodeProto], number: Number, read_elsewhere: Collection[str]
    ) -> None:
        self._number, self._elsewhere = number, read_elsewhere
        self._makers = {output: node for node in nodes for output in node.output}
        self._reads = Counter(name for node in nodes for name in node.input)
        self._readers = {name: node for node in nodes for name in node.input}

    def gelu(self, erf: NodeProto) -> tuple[str, list[str]] | None:
        """What the GELU around ``erf`` is of, and the values on the way to it, the last one it."""
        scaled = self._makers.get(erf.input[0])
        x = None if scaled is None else self._unscaled(scaled)
        raised = self._behind(erf, "Add")
        if x is None or scaled is None or raised is None or not self._alone(erf.input[0]):
            return None
        if not self._near(_other(raised, erf.output[0]), 1.0):
            return None
        chain = [erf.input[0], erf.output[0], raised.output[0]]
        factors, last = [x, 0.5], raised
        while factors:  # the two other factors, in either order
            product = self._behind(last, "Mul")
            if product is None:
                return None
            other = _other(product, last.output[0])
            factor = x if other == x else 0.5 if self._near(other, 0.5) else None
            if factor not in factors:
                return None
            factors.remove(factor)
            chain.append(product.output[0])
            last = product
        return x, chain

    def _unscaled(self, node: NodeProto) -> str | None:
        """``x`` where the node makes ``x / sqrt 2``."""
        if is_plain(node, "Div") and self._near(node.input[1], math.sqrt(2)):
            return str(node.input[0])
        if is_plain(node, "Mul"):
            for x, factor in (tuple(node.input), tuple(node.input)[::-1]):
                if self._near(factor, math.sqrt(0.5)):
                    return str(x)
        return None

    def _behind(self, node: NodeProto, kind: str) -> NodeProto | None:
        """The node of this kind that alone reads what ``node`` makes."""
        reader = self._readers.get(node.output[0])
        alone = reader is not None and self._alone(node.output[0])
        return reader if alone and reader is not None and is_plain(reader, kind) else None

    def _alone(self, value: str) -> bool:
        return self._reads[value] == 1 and value not in self._elsewhere

    def _near(self, name: str, number: float) -> bool:
        found = self._number(name)
        return found is not None and math.isclose(found, number, rel_tol=1e-3)


def _other(node: NodeProto, value: str) -> str:
    return str(node.input[1] if node.input[0] == value else node.input[0])
