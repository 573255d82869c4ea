"""Recurrent layers that torch has too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradaudit.onnx_graph import recurrent_layers
from gradaudit.onnx_graph.layers._made import Asked, Layer, Maker, layer

_GATES = {
    "LSTM": (recurrent_layers.LstmLayer, ("sigmoid", "tanh", "tanh")),
    "GRU": (recurrent_layers.GruLayer, ("sigmoid", "tanh")),
    "RNN": (recurrent_layers.RnnLayer, ()),
}


def _recurrent(name: str) -> Maker:
    def maker(asked: Asked) -> Layer | None:
        base, usual = _GATES[name]
        kernel, hidden, biases = (asked.parameter(i) for i in (1, 2, 3))
        nonlinearity = _plain_activations(asked.keywords, usual)
        fixed = asked.keywords.get("clip") is None and not asked.keywords.get("input_forget", 0)
        plain = fixed and asked.missing(4) and asked.missing(7) and nonlinearity is not None
        if name == "GRU" and not asked.keywords.get("linear_before_reset", 0):
            plain = False
        if kernel is None or hidden is None or not plain:
            return None
        if biases is None and not asked.missing(3):
            return None
        more = {"nonlinearity": nonlinearity} if name == "RNN" else {}
        attributes = recurrent_layers.layer_attributes(
            kernel,
            hidden,
            bias=biases is not None,
            time_first=not asked.keywords.get("layout", 0),
            mode=f"RNN_{nonlinearity}".upper() if name == "RNN" else name,
            **more,
        )
        leaves = (recurrent_layers.KERNEL, recurrent_layers.HIDDEN, recurrent_layers.BIASES)
        return Layer(base, ("", *leaves), attributes)

    return maker


def _plain_activations(keywords: Mapping[str, Any], usual: Sequence[str]) -> str | None:
    """The nonlinearity of a layer that torch has too; ``None`` for any other."""
    if keywords.get("direction", "forward") == "reverse":
        return None
    named = [each.lower() for each in keywords.get("activations") or ()]
    if usual:
        repeated = list(usual) * 2
        return "tanh" if named == repeated[: len(named)] else None
    kinds = set(named) or {"tanh"}
    return kinds.pop() if kinds in ({"tanh"}, {"relu"}) else None


for _name in _GATES:
    layer(_name)(_recurrent(_name))
