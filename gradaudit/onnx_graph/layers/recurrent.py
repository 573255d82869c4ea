"""Recurrent layers that torch has too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gradaudit.onnx_graph import recurrent_layers
from gradaudit.onnx_graph.layers._made import Asked, Layer, Maker, layer

_LEAVES = (recurrent_layers.KERNEL, recurrent_layers.HIDDEN, recurrent_layers.BIASES)
_GATES = {
    "LSTM": (recurrent_layers.LstmLayer, ("sigmoid", "tanh", "tanh")),
    "GRU": (recurrent_layers.GruLayer, ("sigmoid", "tanh")),
    "RNN": (recurrent_layers.RnnLayer, ()),
}


def _recurrent(name: str) -> Maker:
    base, usual = _GATES[name]

    def maker(asked: Asked) -> Layer | None:
        nonlinearity = _plain_activations(asked.keywords, usual)
        weights = {leaf: _weight(asked, i) for i, leaf in enumerate(_LEAVES, 1)}
        kernel, hidden, biases = weights.values()
        if nonlinearity is None or kernel is None or hidden is None or not _plain(name, asked):
            return None
        if biases is None and not asked.missing(3):
            return None
        moved = {leaf: asked.moved[i] for i, leaf in enumerate(_LEAVES, 1) if _moved(asked, i)}
        sources = dict.fromkeys(p for each in moved.values() if each for p in each.parameters())
        more = {"nonlinearity": nonlinearity} if name == "RNN" else {}
        attributes = recurrent_layers.layer_attributes(
            kernel,
            hidden,
            bias=biases is not None,
            time_first=not asked.keywords.get("layout", 0),
            mode=f"RNN_{nonlinearity}".upper() if name == "RNN" else name,
            moved=moved,
            **more,
        )
        made_of = {f"source_{i}": parameter for i, parameter in enumerate(sources)}
        return Layer(base, ("", *_LEAVES), attributes, made_of)

    return maker


def _moved(asked: Asked, i: int) -> bool:
    return i < len(asked.moved) and asked.moved[i] is not None


def _weight(asked: Asked, i: int) -> Tensor | None:
    """Weight ``i``, a parameter or made of some; ``None`` where it is neither."""
    moved = asked.moved[i] if _moved(asked, i) else None
    return asked.parameter(i) if moved is None else moved.evaluate()


def _plain(name: str, asked: Asked) -> bool:
    """Whether torch's layer computes the same."""
    keywords = asked.keywords
    if keywords.get("clip") is not None or keywords.get("input_forget", 0):
        return False
    plain = asked.missing(4) and asked.missing(7)
    return plain and (name != "GRU" or bool(keywords.get("linear_before_reset", 0)))


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
