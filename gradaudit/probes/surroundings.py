"""What the forward pass shows of each weight: its input's size, and what takes its output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from gradaudit.probes.folding import Fold
from gradaudit.probes.graph import parents
from gradaudit.probes.trace import Op, Trace
from gradaudit.subject.places import places

ACTIVATIONS = {
    "relu": "ReLU",
    "relu_": "ReLU",
    "leaky_relu": "LeakyReLU",
    "leaky_relu_": "LeakyReLU",
    "tanh": "Tanh",
    "tanh_": "Tanh",
    "sigmoid": "Sigmoid",
    "sigmoid_": "Sigmoid",
    "gelu": "GELU",
    "silu": "SiLU",
    "selu": "SELU",
    "selu_": "SELU",
    "elu": "ELU",
    "elu_": "ELU",
    "relu6": "ReLU6",
    "mish": "Mish",
    "softplus": "Softplus",
    "hardswish": "Hardswish",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
}
# Norms, dropout, pooling and reshapes stand between a layer and its nonlinearity.
_PASSED = (
    "BatchNorm",
    "LayerNorm",
    "GroupNorm",
    "View",
    "Reshape",
    "Transpose",
    "Permute",
    "MulBackward",
    "Pool",
    "Dropout",
)
_LOOK_AHEAD = 4


def input_sizes(model: nn.Module, trace: Trace) -> dict[str, tuple[int, ...]]:
    """Spatial size of each convolution's first input, by module name."""
    sizes: dict[str, tuple[int, ...]] = {}
    for call in trace.calls:
        module = model.get_submodule(call.module)
        if isinstance(module, _ConvNd) and call.input_shape:
            sizes.setdefault(call.module, call.input_shape[-len(module.kernel_size) :])
    return sizes


def activations(model: nn.Module, trace: Trace) -> dict[str, str]:
    """Class name of the nonlinearity that takes each weighted module's output, where one does."""
    by_node = trace.by_node()
    consumers = _consumers(by_node)
    weighted = {place.module for place in places(model) if place.parameter.dim() >= 2}
    last: dict[str, Op] = {}
    for op in trace.ops:
        if op.call is not None and op.call.module in weighted and op.node is not None:
            last[op.call.module] = op
    found = {}
    for module, op in last.items():
        name = _follow(op.node, consumers, by_node)
        if name:
            found[module] = name
    return found


def folds_behind(model: nn.Module, trace: Trace, folds: Mapping[str, Fold]) -> dict[str, Fold]:
    """Those of a model's ``folds`` that alone take a weight's output, by the weight's module."""
    pairs = batch_norms_behind(model, trace)
    return {module: folds[norm] for module, norm in pairs.items() if norm in folds}


def batch_norms_behind(model: nn.Module, trace: Trace) -> dict[str, str]:
    """The batch norm that alone takes the output of each convolution or dense layer, by names.

    Its channels are the layer's outputs. A layer called several times has one only if all its
    calls agree.
    """
    by_node = trace.by_node()
    consumers = _consumers(by_node)
    found: dict[str, set[str]] = {}
    # A call's last tensor is what it returns; padding, say, is made before.
    last = {op.call: op for op in trace.ops if op.call is not None and op.node is not None}
    for call, op in last.items():
        module = model.get_submodule(call.module)
        if isinstance(module, nn.Linear | _ConvNd) and _channels_second(module, op):
            found.setdefault(call.module, set()).add(_batch_norm(model, op, consumers, by_node))
    alike = {name: norms.pop() for name, norms in found.items() if len(norms) == 1}
    return {name: norm for name, norm in alike.items() if norm}


def _channels_second(module: nn.Linear | _ConvNd, op: Op) -> bool:
    """Whether the layer's outputs lie where batch norm looks for channels."""
    return len(op.shape) == (module.weight.dim() if isinstance(module, _ConvNd) else 2)


def _batch_norm(
    model: nn.Module, op: Op, consumers: dict[Any, list[Any]], by_node: dict[Any, Op]
) -> str:
    following = consumers.get(op.node, [])
    call = by_node[following[0]].call if len(following) == 1 else None
    if call is None or not isinstance(model.get_submodule(call.module), _BatchNorm):
        return ""
    return call.module


def _consumers(by_node: dict[Any, Op]) -> dict[Any, list[Any]]:
    """The recorded tensors that were computed directly from each one."""
    consumers: dict[Any, list[Any]] = {}
    for node in by_node:
        for parent in _nearest(node, by_node):
            consumers.setdefault(parent, []).append(node)
    return consumers


def _nearest(node: Any, by_node: dict[Any, Op]) -> set[Any]:
    """The recorded tensors ``node`` was computed from directly."""
    found, seen, queue = set(), set(), parents(node)
    while queue:
        parent = queue.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if parent in by_node:
            found.add(parent)
        else:
            queue.extend(parents(parent))
    return found


def _follow(node: Any, consumers: dict[Any, list[Any]], by_node: dict[Any, Op]) -> str:
    for _ in range(_LOOK_AHEAD):
        following = consumers.get(node, [])
        if len(following) != 1:
            return ""
        node = following[0]
        name = ACTIVATIONS.get(by_node[node].name)
        if name is not None:
            return name
        if not any(part in node.name() for part in _PASSED):
            return ""
    return ""
