"""Nodes that are one of torch's own layers, so that whoever looks for those finds them.

A convolution with constant weights is an ``nn.Conv2d``, down to the names of its attributes; what
it computes is still the operator's function. A node that torch's layer could not compute, for
example one whose weight another node makes, is a plain :class:`Node`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from gradaudit.onnx_graph import recurrent_layers

Parameters = Sequence[nn.Parameter | None]  # by input; None where it is no parameter


@dataclass(frozen=True)
class Layer:
    """torch's class, the attribute of each input there, and what else the class's users read."""

    base: type[nn.Module]
    leaves: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A node: its attributes, the opset version, its inputs that are parameters, how many it has.

    ``absent`` are inputs that are left out; behind the last one all are.
    """

    keywords: Mapping[str, Any]
    parameters: Parameters
    absent: frozenset[int]

    def parameter(self, i: int) -> nn.Parameter | None:
        """Input ``i``, if it is a parameter."""
        return self.parameters[i] if i < len(self.parameters) else None

    def missing(self, i: int) -> bool:
        """Whether input ``i`` is left out."""
        return i >= len(self.parameters) or i in self.absent


_Maker = Callable[[Asked], Layer | None]
_MAKERS: dict[tuple[str, str], _Maker] = {}


def layer_of(domain: str, name: str, asked: Asked) -> Layer | None:
    """The layer that a node of this operator is; ``None`` where it is none."""
    maker = _MAKERS.get((domain, name))
    return None if maker is None else maker(asked)


def _layer(name: str, domain: str = "") -> Callable[[_Maker], _Maker]:
    def register(maker: _Maker) -> _Maker:
        _MAKERS[domain, name] = maker
        return maker

    return register


def _activation(base: type[nn.Module], **attributes: Any) -> _Maker:
    return lambda _: Layer(base, ("",), attributes)


_MAKERS |= {
    ("", name): _activation(base)
    for name, base in {
        "Relu": nn.ReLU,
        "Sigmoid": nn.Sigmoid,
        "Tanh": nn.Tanh,
        "Softsign": nn.Softsign,
        "Mish": nn.Mish,
        "HardSwish": nn.Hardswish,
        "HardSigmoid": nn.Hardsigmoid,
        "Flatten": nn.Flatten,
        "Identity": nn.Identity,
    }.items()
}
_MAKERS |= {
    (domain, name): _activation(nn.GELU, approximate=approximate)
    for domain, name, approximate in (
        ("", "Gelu", "none"),
        ("com.microsoft", "Gelu", "none"),
        ("com.microsoft", "FastGelu", "tanh"),
    )
}


@_layer("Swish")
def _swish(asked: Asked) -> Layer | None:
    return Layer(nn.SiLU, ("",)) if asked.keywords.get("alpha", 1.0) == 1.0 else None


@_layer("Gemm")
def _gemm(asked: Asked) -> Layer | None:
    weight, keywords = asked.parameter(1), asked.keywords
    scaled = keywords.get("alpha", 1.0) != 1.0 or keywords.get("beta", 1.0) != 1.0
    if weight is None or weight.dim() != 2 or scaled or keywords.get("transA", 0):
        return None
    return _dense(asked, weight, inputs_first=not keywords.get("transB", 0))


@_layer("MatMul")
@_layer("BiasedMatMul", "gradaudit")
def _matmul(asked: Asked) -> Layer | None:
    weight = asked.parameter(1)
    if weight is None or weight.dim() != 2:
        return None
    return _dense(asked, weight, inputs_first=True)


@_layer("Dense", "gradaudit")
def _linear(asked: Asked) -> Layer | None:
    weight = asked.parameter(1)
    return None if weight is None else _dense(asked, weight, inputs_first=False)


def _dense(asked: Asked, weight: nn.Parameter, *, inputs_first: bool) -> Layer | None:
    bias = asked.parameter(2)
    if bias is None and not asked.missing(2):
        return None
    inputs, outputs = weight.shape if inputs_first else weight.shape[::-1]
    if not inputs_first:
        sizes = {"in_features": inputs, "out_features": outputs}
        return Layer(nn.Linear, ("", "weight", "bias"), sizes)
    return Layer(nn.Module, ("", "weight", "bias"), {"inputs_first": True})


@_layer("Gather")
def _embedding(asked: Asked) -> Layer | None:
    table = asked.parameter(0)
    if table is None or table.dim() != 2 or asked.keywords.get("axis", 0) != 0:
        return None
    sizes = {"num_embeddings": table.shape[0], "embedding_dim": table.shape[1]}
    options = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "sparse": False}
    return Layer(nn.Embedding, ("weight", ""), {**sizes, **options, "scale_grad_by_freq": False})


_CONVOLUTIONS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}


@_layer("Conv")
def _convolution(asked: Asked) -> Layer | None:
    return _any_convolution(asked, transposed=False)


@_layer("ConvTranspose")
def _transposed(asked: Asked) -> Layer | None:
    return None if asked.keywords.get("output_shape") else _any_convolution(asked, transposed=True)


def _any_convolution(asked: Asked, *, transposed: bool) -> Layer | None:
    kernel, keywords = asked.parameter(1), asked.keywords
    if kernel is None or not 3 <= kernel.dim() <= 5:
        return None
    if asked.parameter(2) is None and not asked.missing(2):
        return None
    taps = tuple(kernel.shape[2:])
    ones, groups = (1,) * len(taps), int(keywords.get("group") or 1)
    stride = tuple(keywords.get("strides") or ones)
    dilation = tuple(keywords.get("dilations") or ones)
    pads = _pads(keywords, taps, stride, dilation)
    if pads is None:
        return None
    outer, inner = kernel.shape[0], kernel.shape[1] * groups
    base = _CONVOLUTIONS[len(taps)][transposed]
    attributes = {
        "in_channels": outer if transposed else inner,
        "out_channels": inner if transposed else outer,
        "kernel_size": taps,
        "stride": stride,
        "padding": tuple(before for before, _ in pads),
        "dilation": dilation,
        "groups": groups,
        "padding_mode": "zeros",
        "transposed": issubclass(base, _ConvTransposeNd),
        "output_padding": tuple(keywords.get("output_padding") or (0,) * len(taps)),
    }
    if any(before != after for before, after in pads):
        attributes["uneven_padding"] = pads
    return Layer(base, ("", "weight", "bias"), attributes)


def _pads(
    keywords: Mapping[str, Any],
    taps: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...] | None:
    """(before, after) in each dimension; ``None`` where it depends on the input's size."""
    mode = keywords.get("auto_pad") or "NOTSET"
    if mode == "VALID":
        return tuple((0, 0) for _ in taps)
    if mode == "NOTSET":
        pads = keywords.get("pads") or [0] * 2 * len(taps)
        return tuple(zip(pads[: len(taps)], pads[len(taps) :], strict=True))
    if any(step != 1 for step in stride):
        return None
    totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    ends = [(total // 2, total - total // 2) for total in totals]
    return tuple(ends if mode == "SAME_UPPER" else [end[::-1] for end in ends])


@_layer("BatchNormalization")
def _batch_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or any(asked.parameter(i) is None for i in (2, 3, 4)):
        return None
    attributes = {
        "num_features": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "momentum": 1 - asked.keywords.get("momentum", 0.9),
        "affine": True,
        "track_running_stats": True,
        "training": bool(asked.keywords.get("training_mode", 0)),
    }
    leaves = ("", "weight", "bias", "running_mean", "running_var")
    return Layer(nn.BatchNorm2d, leaves, attributes)


@_layer("InstanceNormalization")
def _instance_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or asked.parameter(2) is None:
        return None
    attributes = {
        "num_features": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "affine": True,
        "track_running_stats": False,
        "running_mean": None,
        "running_var": None,
    }
    return Layer(nn.InstanceNorm2d, ("", "weight", "bias"), attributes)


@_layer("LayerNormalization")
@_layer("LayerNormalization", "com.microsoft")
def _layer_norm(asked: Asked) -> Layer | None:
    return _last_axis_norm(asked, nn.LayerNorm)


@_layer("RMSNormalization")
@_layer("SimplifiedLayerNormalization")
@_layer("SimplifiedLayerNormalization", "com.microsoft")
def _rms_norm(asked: Asked) -> Layer | None:
    return _last_axis_norm(asked, nn.RMSNorm)


def _last_axis_norm(asked: Asked, base: type[nn.Module]) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or (asked.parameter(2) is None and not asked.missing(2)):
        return None
    attributes = {
        "normalized_shape": tuple(scale.shape),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "elementwise_affine": True,
    }
    return Layer(base, ("", "weight", "bias"), attributes)


@_layer("GroupNormalization")
def _group_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or asked.parameter(2) is None:
        return None
    attributes = {
        "num_groups": asked.keywords.get("num_groups", 1),
        "num_channels": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "affine": True,
    }
    return Layer(nn.GroupNorm, ("", "weight", "bias"), attributes)


_GATES = {
    "LSTM": (recurrent_layers.LstmLayer, ("sigmoid", "tanh", "tanh")),
    "GRU": (recurrent_layers.GruLayer, ("sigmoid", "tanh")),
    "RNN": (recurrent_layers.RnnLayer, ()),
}


def _recurrent(name: str) -> _Maker:
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


_MAKERS |= {("", name): _recurrent(name) for name in _GATES}
