"""What one training step costs, counted and not timed, so that the same seed decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
# One core of an ordinary machine. Decided by these and not by the clock, so that a second run takes
# the same number of steps.
FLOPS_PER_SECOND, PER_OPERATION, PER_TENSOR, PER_STEP = 4.5e10, 9e-6, 2e-5, 3e-4


@dataclass(frozen=True)
class Expense:
    """What a training step is made of, counted on one forward pass of the first batch."""

    flops: float  # of the products of the forward pass
    operations: int  # tensor operations of the forward pass
    calls: int  # of modules
    tensors: int  # parameters, which the optimizer visits

    @property
    def cheap(self) -> bool:
        """Whether dozens of steps cost nothing beside the audit's fixed seconds."""
        return 3 * self.flops <= CHEAP_FLOPS and self.calls <= CHEAP_CALLS

    @property
    def seconds(self) -> float:
        """About what a step takes on one core: within a factor of two on twelve small nets."""
        work = 3 * self.flops / FLOPS_PER_SECOND
        return work + self.operations * PER_OPERATION + self.tensors * PER_TENSOR + PER_STEP


def expense_of(opened: Opened) -> Expense | None:
    """Count one forward pass: products, convolutions, fused recurrent layers, module calls.

    ``None`` where there is nothing to run. Raises what the user's code raises.
    """
    if opened.model is None or opened.objective is None or not opened.batches:
        return None
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
    tensors = sum(1 for _ in opened.model.parameters())
    return Expense(counter.flops, counter.operations, calls, tensors)


def is_cheap(opened: Opened) -> bool:
    """Whether a training step on the first batch is so small that dozens of them cost nothing."""
    expense = expense_of(opened)
    return expense is not None and expense.cheap


class _Counter(TorchDispatchMode):
    """Adds up the operations of products, convolutions and fused recurrent layers.

    torch's own counter also hooks every module's outputs, which fails on views made without
    gradients, and does not know the recurrent kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.operations = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
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
