"""Nonlinearities, and nodes that hand on what they are given."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradaudit.onnx_graph.layers._made import Asked, Layer, layer

_PLAIN: dict[str, type[nn.Module]] = {
    "Relu": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softsign": nn.Softsign,
    "Mish": nn.Mish,
    "HardSwish": nn.Hardswish,
    "HardSigmoid": nn.Hardsigmoid,
    "Flatten": nn.Flatten,
    "Identity": nn.Identity,
}
_GELUS = (
    ("", "Gelu", "none"),
    ("gradaudit", "Gelu", "none"),
    ("com.microsoft", "Gelu", "none"),
    ("com.microsoft", "FastGelu", "tanh"),
)


def _register(name: str, domain: str, base: type[nn.Module], **attributes: Any) -> None:
    @layer(name, domain)
    def made(_: Asked) -> Layer:
        return Layer(base, ("",), attributes)


for _name, _base in _PLAIN.items():
    _register(_name, "", _base)
for _domain, _name, _approximate in _GELUS:
    _register(_name, _domain, nn.GELU, approximate=_approximate)


@layer("Swish")
def _swish(asked: Asked) -> Layer | None:
    return Layer(nn.SiLU, ("",)) if asked.keywords.get("alpha", 1.0) == 1.0 else None
