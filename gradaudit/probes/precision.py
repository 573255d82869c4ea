"""What half precision would do to this run, forecast from one pass in float32.

Forecast is ``torch.autocast`` with float32 weights, or, where the weights are half themselves,
everything in half ("pure"). The formats of all tensors are followed through the pass as autocast
would choose them; magnitudes are looked at where half precision would have to hold them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes._half_gradients import GradientWatch, Sizes, pooled
from gradaudit.probes._half_types import SimulatedTypes
from gradaudit.probes._half_updates import Updates, first_updates
from gradaudit.probes._half_watch import ForwardWatch, Seen
from gradaudit.probes._hooks import (
    CallStack,
    backward,
    take_objective,
)
from gradaudit.probes._training import global_norm
from gradaudit.probes.graph import reachable
from gradaudit.probes.half_formats import FORMATS, FP16, HALVES, HalfFormat, loss_scale
from gradaudit.records import Estimate, HalfRow, NotMeasured, Precision
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened

_WHAT = "half-precision range"
_SAME = 0.01  # so far loss and gradient may go where an overflow does no harm
_SHARE = "share of nonzero gradient entries"
Result = tuple[Precision | None, tuple[NotMeasured, ...]]


@dataclass
class _Pass:
    """One watched forward and backward pass."""

    seen: Seen
    sizes: dict[str, Sizes]
    loss: float | None  # None: there is no loss
    finite: bool  # loss and gradients
    norm: float = 0.0  # of the gradients

    def like(self, other: _Pass) -> bool:
        """Whether loss and gradient norm are the same but for rounding."""
        pairs = ((self.loss, other.loss), (self.norm, other.norm))
        return self.finite and all(
            math.isclose(a or 0.0, b or 0.0, rel_tol=_SAME, abs_tol=1e-30) for a, b in pairs
        )


@dataclass(frozen=True)
class _Regime:
    """How half precision would be used."""

    pure: bool  # weights and data in half precision too
    policy: str
    seed: int


def measure_precision(opened: Opened, settings: Settings, *, policy: str = "cuda") -> Result:
    """Range of activations, gradients and updates in fp16 and bf16, on the first batch.

    ``policy`` says whose autocast is forecast: that of "cuda", where half precision is trained in,
    or of "cpu", which keeps fewer operations in float32. Call it inside
    ``borrowed(model, training=True)``. Without a loss only activations are forecast.

    Cost: a forward and a backward pass with each tensor looked at (up to twice a plain step), one
    optimizer step, and, where something overflows, one pass more in which the overflow is emulated
    to see whether it changes loss or gradient (a mask of -1e9 does not). ``quick`` spends it only
    on a recipe or weights in half precision.

    Raises :class:`ModelError` where the user's code raises.
    """
    model = opened.model
    if model is None or not opened.batches:
        why = "only weights were opened" if model is None else "there is no data"
        return _nothing(why)
    weights = weights_format(model)
    asked = opened.recipe.precision
    if settings.effort == "quick" and asked not in ("fp16", "bf16") and weights not in HALVES:
        return _nothing("quick effort measures it only for a recipe in fp16 or bf16")
    regime = _Regime(weights in HALVES, policy, settings.seed)
    missing: list[NotMeasured] = []
    updates = Updates({}, None)
    with borrowed(model):
        found = _run(model, opened, regime)
        if not found.finite:
            return _nothing("the loss or its gradient is not finite in float32 already")
        if found.sizes:
            updates = first_updates(model, opened, settings.seed)
            missing += updates.not_measured
    rows = _rows(found, updates, missing)
    for i, row in enumerate(rows):
        if row.overflows_in and found.loss is not None:
            with borrowed(model):
                spreads = not _run(model, opened, regime, FORMATS[i]).like(found)
            rows[i] = replace(row, overflow_spreads=spreads)
    precision = Precision(
        asked=asked,
        loss_scale=_scale(found),
        formats=tuple(rows),
        regime="pure" if regime.pure else "autocast",
        weights=str(weights).removeprefix("torch."),
        eps=updates.eps,
    )
    return precision, tuple(missing)


def _nothing(why: str) -> Result:
    return None, (NotMeasured(_WHAT, "the model", why),)


def weights_format(model: nn.Module) -> torch.dtype:
    """The format most floating parameters have; torch's default where there is none."""
    sizes: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return max(sizes, key=lambda each: sizes[each], default=torch.get_default_dtype())


def _run(
    model: nn.Module, opened: Opened, regime: _Regime, emulate: HalfFormat | None = None
) -> _Pass:
    """One pass over the first batch; ``emulate`` makes infinite what overflows in that format.

    The model is changed (weights to float32, gradients): call it with the model borrowed.
    """
    batch = opened.batches[0]
    if regime.pure:
        model.float()
        batch = _in_float32(batch)
    torch.manual_seed(regime.seed)
    with CallStack(model) as stack:
        types = SimulatedTypes(pure=regime.pure, policy=regime.policy)
        watch = ForwardWatch(stack, types, model.parameters(), emulate)
        with watch.watching():
            output = batch.run(model)
            watch.in_loss = True
            if opened.objective is None:
                return _Pass(watch.seen, {}, None, True)
            loss = take_objective(opened.objective, output, batch)
        stack.forward_ended()
        return _backward(model, loss, watch.seen)


def _backward(model: nn.Module, loss: Tensor, seen: Seen) -> _Pass:
    value = float(loss.detach())
    if not math.isfinite(value):
        return _Pass(seen, {}, value, False)
    gradients = GradientWatch(seen)
    if loss.grad_fn is not None:
        # in the order of their making: what is found first stands for what is as large
        nodes = sorted(reachable([loss.grad_fn]), key=lambda node: node._sequence_nr())
        handles = gradients.attach(nodes)
        try:
            backward(loss)
        finally:
            for handle in handles:
                handle.remove()
    norm = global_norm(model)
    finite = math.isfinite(norm) and pooled(gradients.sizes).finite
    return _Pass(seen, gradients.sizes, value, finite, norm)


def _rows(found: _Pass, updates: Updates, missing: list[NotMeasured]) -> list[HalfRow]:
    peak = found.seen.largest()
    total = pooled(found.sizes)
    if peak is None:
        why = "no operation of the forward pass would run in half precision"
        missing.append(NotMeasured("half-precision activations", "the model", why))
    if not total.nonzero:
        why = "there is no loss" if found.loss is None else "no gradient in it is other than zero"
        missing.append(NotMeasured("half-precision gradients", "the model", why))
    scale = _scale(found)
    rows = []
    for form in FORMATS:
        scaled = None if scale is None or form is not FP16 else _lost(total, form, scale)
        rows.append(
            HalfRow(
                format=form.name,
                largest_activation=None if peak is None else peak[1],
                largest_activation_at="" if peak is None else peak[0].module,
                overflows_in=found.seen.overflows(form),
                largest_gradient=total.peak if total.nonzero else None,
                underflow=_lost(total, form, 1.0) if total.nonzero else None,
                underflow_scaled=scaled,
                lost_updates=updates.lost.get(form.name),
                eps_flushed=_flushed(updates.eps, form),
                largest_activation_op="" if peak is None else peak[0].op,
                underflow_at=_worst(found.sizes, form),
            )
        )
    return rows


def _scale(found: _Pass) -> float | None:
    peak = max((each.peak for each in found.sizes.values()), default=0.0)
    return loss_scale(peak, found.loss or 0.0) if peak > 0 else None


def _lost(sizes: Sizes, form: HalfFormat, scale: float) -> Estimate:
    power = form.zero_to - round(math.log2(scale))
    return Estimate.exact(sizes.up_to(power) / sizes.nonzero, _SHARE)


def _worst(sizes: Mapping[str, Sizes], form: HalfFormat) -> str:
    lost = {name: each.up_to(form.zero_to) for name, each in sizes.items()}
    name = max(lost, key=lambda each: lost[each], default="")
    return name if lost.get(name) else ""


def _flushed(eps: float | None, form: HalfFormat) -> bool | None:
    return None if eps is None else eps > 0 and not torch.tensor(eps, dtype=form.dtype)


def _in_float32(batch: Batch) -> Batch:
    def widened(tensor: Tensor) -> Any:
        return tensor.detach().float() if tensor.dtype in HALVES else tensor

    inputs, target = torch.utils._pytree.tree_map_only(
        Tensor, widened, (batch.inputs, batch.target)
    )
    return replace(batch, inputs=inputs, target=target)
