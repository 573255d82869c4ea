"""What one training step costs, counted and not timed, so that the same seed decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

from gradaudit.probes._hooks import take_loss
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened

# A few milliseconds of one core: forty such steps are lost in the audit's fixed seconds.
CHEAP_FLOPS = 5e7
CHEAP_CALLS = 200  # module calls: below that size, each costs as much as what it computes


def is_cheap(opened: Opened) -> bool:
    """Whether a training step on the first batch is so small that dozens of them cost nothing.

    Counts the floating-point operations of matrix products, convolutions and fused recurrent layers
    of one forward pass (a step is about three) and the module calls. Raises what the user's code
    raises.
    """
    if opened.model is None or opened.objective is None or not opened.batches:
        return False
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    # Gradients stay on: a forward pass may take some of its own.
    with borrowed(opened.model) as model, _Counter() as counter:
        handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
        try:
            take_loss(model, opened.objective, opened.batches[0])
        finally:
            handle.remove()
    return 3 * counter.flops <= CHEAP_FLOPS and calls <= CHEAP_CALLS


class _Counter(TorchDispatchMode):
    """Adds up the operations of products, convolutions and fused recurrent layers.

    torch's own counter also hooks every module's outputs, which fails on views made without
    gradients, and does not know the recurrent kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = getattr(func, "_overloadpacket", None)
        formula = _formulas().get(packet)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


@cache
def _formulas() -> Mapping[Any, Callable[..., int]]:
    aten = torch.ops.aten
    recurrent = {aten.mkldnn_rnn_layer: _one_layer_flops, aten._cudnn_rnn: _recurrent_flops}
    return {**flop_registry, **{op: shape_wrapper(f) for op, f in recurrent.items()}}


def _one_layer_flops(input_shape: Any, *rest: Any, **_: Any) -> int:
    """mkldnn: input-to-hidden and hidden-to-hidden weights, then biases and states."""
    return _recurrent_flops(input_shape, rest[:2])


def _recurrent_flops(input_shape: Any, weight_shapes: Sequence[Any], *_: Any, **__: Any) -> int:
    """Every weight meets every row at every step: two operations for each of its entries."""
    rows = math.prod(input_shape[:-1])  # time x batch, or the packed rows
    return 2 * rows * sum(math.prod(shape) for shape in weight_shapes)
