"""What the forward pass shows of each weight: its input's size, the nonlinearity behind it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from gradaudit.probes.graph import parents
from gradaudit.probes.trace import Op, Trace

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
    consumers: dict[Any, list[Any]] = {}
    for node in by_node:
        for parent in _nearest(node, by_node):
            consumers.setdefault(parent, []).append(node)
    weighted = {n.rpartition(".")[0] for n, p in model.named_parameters() if p.dim() >= 2}
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
