"""torch's own layers, made again of what a leaf of a graph computes and of the tensors it holds.

A graph says which operators ran on what, and of which class the module was. Where that is exactly
what one of torch's layers does, the layer itself takes the leaf's place, so that it is measured,
trained and switched to training as such; everything else stays as the graph has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.subject.formats.programs.leaves import Ask, Given, Leaf, Made, Own
from gradaudit.subject.formats.programs.own_recurrent import KERNELS, recurrent


def own_layer(leaf: Leaf) -> nn.Module | None:
    """The layer of torch's own that does what ``leaf`` does, holding its tensors; else ``None``."""
    make = _MAKERS.get(leaf.kind)
    if make is None:
        return None
    try:
        with torch.device("meta"):
            module = make(leaf)
        return None if module is None else _holding(module, leaf.tensors)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, AssertionError):
        return None  # arguments that the layer does not take


def _holding(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """``module`` with the leaf's very tensors; ``None`` unless it has just those places."""
    places = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if set(places) - {"num_batches_tracked"} != set(tensors) - {"num_batches_tracked"}:
        return None
    for name, place in places.items():
        tensor = tensors.get(name)
        if tensor is None:
            tensor = torch.zeros((), dtype=torch.int64)
        if tensor.shape != place.shape:
            return None
        if name in module._parameters:
            if not isinstance(tensor, nn.Parameter):
                return None
            module._parameters[name] = tensor
        else:
            module._buffers[name] = tensor
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()
        module.flatten_parameters()
    return module


def _sole(leaf: Leaf, *names: str) -> Ask | None:
    """The one operator of a leaf that returns what it makes of its one input."""
    if len(leaf.asks) == 1 and leaf.asks[0].name in names and leaf.outputs == (Made(0),):
        return leaf.asks[0]
    return None


def _linear(leaf: Leaf) -> nn.Module | None:
    ask = _sole(leaf, "linear")
    weight = leaf.tensors.get("weight")
    if ask is None or weight is None or ask.args[:2] != (Given(), Own("weight")):
        return None
    bias = ask.arg(2)
    if bias not in (None, Own("bias")):
        return None
    return nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)


def _convolution(leaf: Leaf) -> nn.Module | None:
    ask = _sole(
        leaf, "_convolution", "convolution", *(f"conv{n}d" for n in (1, 2, 3)),
        *(f"conv_transpose{n}d" for n in (1, 2, 3)),
    )  # fmt: skip
    if ask is None or ask.args[:2] != (Given(), Own("weight")):
        return None
    if ask.arg(2) not in (None, Own("bias")):
        return None
    weight, bias = leaf.tensors["weight"], ask.arg(2) is not None
    n = weight.ndim - 2
    ones, zeros = [1] * n, [0] * n
    transposed = leaf.kind.startswith("ConvTranspose")
    if ask.name in ("_convolution", "convolution"):
        stride, padding, dilation, turned, output, groups = ask.args[3:9]
        if bool(turned) != transposed:
            return None
    elif transposed:
        stride, padding = ask.arg(3, ones, "stride"), ask.arg(4, zeros, "padding")
        output, groups = ask.arg(5, zeros, "output_padding"), ask.arg(6, 1, "groups")
        dilation = ask.arg(7, ones, "dilation")
    else:
        stride, padding = ask.arg(3, ones, "stride"), ask.arg(4, zeros, "padding")
        dilation, groups, output = ask.arg(5, ones, "dilation"), ask.arg(6, 1, "groups"), zeros
    shared: dict[str, Any] = {
        "stride": _spread(stride, n),
        "padding": padding if isinstance(padding, str) else _spread(padding, n),
        "dilation": _spread(dilation, n),
        "groups": groups,
        "bias": bias,
    }
    make = getattr(nn, leaf.kind)
    kernel = tuple(weight.shape[2:])
    if transposed:
        made: nn.Module = make(
            weight.shape[0], weight.shape[1] * groups, kernel,
            output_padding=_spread(output, n), **shared,
        )  # fmt: skip
        return made
    made = make(weight.shape[1] * groups, weight.shape[0], kernel, **shared)
    return made if not any(_spread(output, n)) else None


def _spread(value: Any, n: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * n if len(values) == 1 else values)


def _batch_norm(leaf: Leaf) -> nn.Module | None:
    asks = [ask for ask in leaf.asks if ask.name != "add_"]
    counted = [ask for ask in leaf.asks if ask.name == "add_"]
    if len(asks) != 1 or any(ask.args[:1] != (Own("num_batches_tracked"),) for ask in counted):
        return None
    ask = asks[0]
    if ask.name != "batch_norm" or leaf.outputs != (Made(leaf.asks.index(ask)),):
        return None
    given, weight, bias, mean, var, training, momentum, eps = ask.args[:8]
    tracked = mean is not None
    size = next(iter(leaf.tensors.values())).shape[0]
    owned = (weight, bias) in ((None, None), (Own("weight"), Own("bias")))
    running = (mean, var) in ((None, None), (Own("running_mean"), Own("running_var")))
    if given != Given() or not owned or not running:
        return None
    made: nn.Module = getattr(nn, leaf.kind)(
        size, eps=eps, momentum=momentum, affine=weight is not None, track_running_stats=tracked
    )
    return made.train(bool(training) and (not tracked or bool(counted)))


def _layer_norm(leaf: Leaf) -> nn.Module | None:
    ask = _sole(leaf, "layer_norm")
    if ask is None or ask.arg(0) != Given():
        return None
    weight, bias = ask.arg(2, None, "weight"), ask.arg(3, None, "bias")
    if weight not in (None, Own("weight")) or bias not in (None, Own("bias")):
        return None
    return nn.LayerNorm(
        ask.args[1],
        eps=ask.arg(4, 1e-5, "eps"),
        elementwise_affine=weight is not None,
        bias=bias is not None,
    )


def _rms_norm(leaf: Leaf) -> nn.Module | None:
    ask = _sole(leaf, "rms_norm")
    if ask is None or ask.arg(0) != Given() or ask.arg(2) not in (None, Own("weight")):
        return None
    affine = ask.arg(2) is not None
    return nn.RMSNorm(ask.args[1], eps=ask.arg(3, None, "eps"), elementwise_affine=affine)


def _group_norm(leaf: Leaf) -> nn.Module | None:
    ask = _sole(leaf, "group_norm")
    if ask is None or ask.arg(0) != Given():
        return None
    affine = (ask.arg(2, None, "weight"), ask.arg(3, None, "bias")) == (Own("weight"), Own("bias"))
    if not affine:
        return None
    return nn.GroupNorm(ask.args[1], leaf.tensors["weight"].shape[0], eps=ask.arg(4, 1e-5, "eps"))


def _embedding(leaf: Leaf) -> nn.Module | None:
    ask = _sole(leaf, "embedding")
    if ask is None or ask.args[:2] != (Own("weight"), Given()):
        return None
    index = ask.arg(2, -1, "padding_idx")
    by_count, sparse = ask.arg(3, False, "scale_grad_by_freq"), ask.arg(4, False, "sparse")
    rows, width = leaf.tensors["weight"].shape
    return nn.Embedding(
        rows,
        width,
        padding_idx=None if index == -1 else index,
        scale_grad_by_freq=by_count,
        sparse=sparse,
    )


def _dropout(leaf: Leaf) -> nn.Module | None:
    names = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    ask = _sole(leaf, *names, *(f"{name}_" for name in names))
    if ask is None or ask.arg(0) != Given():
        return None
    made: nn.Module = getattr(nn, leaf.kind)(ask.args[1], inplace=ask.name.endswith("_"))
    return made.train(bool(ask.args[2]))


def _activation(
    make: Callable[..., nn.Module], *names: str, most: int = 0
) -> Callable[[Leaf], nn.Module | None]:
    """A layer without tensors whose arguments follow its input, as torch's function has them."""

    def made(leaf: Leaf) -> nn.Module | None:
        ask = _sole(leaf, *names, *(f"{name}_" for name in names))
        if ask is None or ask.arg(0) != Given() or len(ask.args) > 1 + most or leaf.tensors:
            return None
        if any(not _number(value) for value in (*ask.args[1:], *ask.kwargs.values())):
            return None
        in_place = {"inplace": True} if ask.name.endswith("_") else {}
        return make(*ask.args[1:], **ask.kwargs, **in_place)

    return made


def _number(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))


_CONVOLUTIONS: Sequence[str] = [f"Conv{t}{n}d" for t in ("", "Transpose") for n in (1, 2, 3)]
_MAKERS: Mapping[str, Callable[[Leaf], nn.Module | None]] = {
    "Linear": _linear,
    "NonDynamicallyQuantizableLinear": _linear,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys([f"BatchNorm{n}d" for n in (1, 2, 3)], _batch_norm),
    "LayerNorm": _layer_norm,
    "RMSNorm": _rms_norm,
    "GroupNorm": _group_norm,
    "Embedding": _embedding,
    **dict.fromkeys(
        ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"],
        _dropout,
    ),
    **dict.fromkeys(KERNELS, recurrent),
    "ReLU": _activation(nn.ReLU, "relu"),
    "Tanh": _activation(nn.Tanh, "tanh"),
    "Sigmoid": _activation(nn.Sigmoid, "sigmoid"),
    "SiLU": _activation(nn.SiLU, "silu"),
    "Mish": _activation(nn.Mish, "mish"),
    "SELU": _activation(nn.SELU, "selu"),
    "ReLU6": _activation(nn.ReLU6, "relu6"),
    "Hardswish": _activation(nn.Hardswish, "hardswish"),
    "LogSigmoid": _activation(nn.LogSigmoid, "log_sigmoid"),
    "LeakyReLU": _activation(nn.LeakyReLU, "leaky_relu", most=1),
    "ELU": _activation(nn.ELU, "elu", most=1),
    "GELU": _activation(nn.GELU, "gelu"),
    "Hardtanh": _activation(nn.Hardtanh, "hardtanh", most=2),
    "Softplus": _activation(nn.Softplus, "softplus", most=2),
}
