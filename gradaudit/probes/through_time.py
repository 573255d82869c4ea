"""How the gradient at the last step reaches back through time, for every recurrent module.

The number behind vanishing and exploding through time (Bengio et al. 1994; Pascanu et al. 2013,
arXiv 1211.5063): the norm of ``d last output / d input at t`` for every t, of layers
(:mod:`time_sequences`) and of cells called in a loop (:mod:`time_loops`).
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradaudit.linalg.intervals import log_mean, log_ratio_interval
from gradaudit.probes.time_loops import loop_reaches, may_loop
from gradaudit.probes.time_loss import loss_reach
from gradaudit.probes.time_sequences import (
    PLAIN_FORWARDS,
    Reach,
    log10_of,
    sequence_reach,
    spectral_radius,
)
from gradaudit.probes.trace import Trace
from gradaudit.records import Estimate, NotMeasured, RecurrentRow
from gradaudit.settings import Settings
from gradaudit.subject.opened import Opened

WHAT = "gradient through time"
HORIZON = 0.01  # of the rms at the last step
_LARGEST = math.log(sys.float_info.max)

Answer = tuple[RecurrentRow | None, tuple[NotMeasured, ...]]


@dataclass(frozen=True)
class _Call:
    """What an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` was given."""

    x: Any
    state: tuple[Tensor, ...] | None


def measure_through_time(
    opened: Opened, settings: Settings, trace: Trace | None = None
) -> tuple[tuple[RecurrentRow, ...], tuple[NotMeasured, ...]]:
    """A row for each recurrent module used on the first batch, and what could not be measured.

    ``profile[t]`` is the root mean square of ``J_t^T u`` for u ~ N(0, I) at the last output, J_t
    the Jacobian with respect to the input (of a cell: the state) at t; ``growth_log10`` has a 95%
    interval over the cotangents. Cost: a forward pass, then per layer ``probes`` passes over four
    sequences in float64; per hand-written loop one more forward and ``probes`` backward passes.
    Nothing where ``trace``, another probe's pass of the same batch, shows no call that could be
    recurrent.

    To be called inside ``borrowed(model)``: the model is run. What its forward raises passes
    through.
    """
    if opened.model is None or not opened.batches:
        return (), ()
    if isinstance(opened.model, torch.jit.ScriptModule):
        why = "a TorchScript module does not show its calls"
        return (), (NotMeasured(WHAT, "the model", why),)
    if trace is not None and not _recurs(opened.model, trace):
        return (), ()
    generator = torch.Generator().manual_seed(settings.seed)
    layers, looping = _watch(opened)
    answers = [
        _layer(opened.model.get_submodule(name), name, calls, settings.budget.probes, generator)
        for name, calls in layers.items()
    ]
    if looping:
        reaches = loop_reaches(
            opened.model, opened.batches[0], looping, settings.budget.probes, generator
        )
        answers += [
            _row(opened.model.get_submodule(name), name, reach) for name, reach in reaches.items()
        ]
    reached = loss_reach(opened, layers)
    rows = tuple(
        replace(row, loss_growth_log10=reached.get(row.module))
        for row, _ in answers
        if row is not None
    )
    return rows, tuple(item for _, missing in answers for item in missing)


def _recurs(model: nn.Module, trace: Trace) -> bool:
    """Whether a recurrent layer, or a module often enough for a loop, was called."""
    called = {name: model.get_submodule(name) for name in {c.module for c in trace.calls}}
    counts = Counter(call.module for call in trace.calls)
    return any(isinstance(m, nn.RNNBase) or may_loop(m, counts[n]) for n, m in called.items())


def _watch(opened: Opened) -> tuple[dict[str, list[_Call]], list[str]]:
    """Run the first batch: the calls of recurrent layers, and the names that may be loops."""
    assert opened.model is not None
    layers: dict[str, list[_Call]] = {}
    counts: dict[str, int] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            counts[name] = counts.get(name, 0) + 1
            if isinstance(module, nn.RNNBase):
                layers.setdefault(name, []).append(_given(args, kwargs))

        return hook

    modules = {
        name: module
        for name, module in opened.model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    }
    handles = [
        module.register_forward_pre_hook(keep(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            opened.batches[0].run(opened.model)
    finally:
        for handle in handles:
            handle.remove()
    one_step = {name for name, calls in layers.items() if _one_step(modules[name], calls)}
    looping = [
        name
        for name, calls in counts.items()
        if may_loop(modules[name], calls) and (name not in layers or name in one_step)
    ]
    return {name: layers[name] for name in layers if name not in looping}, looping


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
    x = args[0] if args else kwargs["input"]
    state = args[1] if len(args) > 1 else kwargs.get("hx")
    return _Call(x, (state,) if isinstance(state, Tensor) else state)


def _length(module: nn.RNNBase, call: _Call) -> int:
    if isinstance(call.x, PackedSequence):
        return len(call.x.batch_sizes)
    return int(call.x.shape[1 if module.batch_first and call.x.dim() == 3 else 0])


def _one_step(module: nn.RNNBase, calls: list[_Call]) -> bool:
    return all(_length(module, call) == 1 for call in calls)


def _layer(
    module: nn.Module, name: str, calls: list[_Call], probes: int, generator: torch.Generator
) -> Answer:
    """Measure the longest call of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``."""
    assert isinstance(module, nn.RNNBase)
    call = max(calls, key=lambda c: _length(module, c))
    why = _hindrance(module, call)
    if why:
        return None, (NotMeasured(WHAT, _place(name), why),)
    reach = sequence_reach(module, call.x, call.state, probes, generator)
    row, missing = _row(module, name, reach)
    if len(calls) > 1:
        why = f"called {len(calls)} times; only the longest sequence was measured"
        missing = (*missing, NotMeasured(WHAT, _place(name), why))
    return row, missing


def _hindrance(module: nn.RNNBase, call: _Call) -> str:
    if isinstance(call.x, PackedSequence):
        return "packed sequences end at different steps: pass the padded tensor to measure it"
    if type(module).forward not in PLAIN_FORWARDS:
        return f"{type(module).__name__} has a forward of its own, unlike torch's layer"
    if _length(module, call) < 2:
        return "a sequence of one step has no time to reach back through"
    finite = [call.x, *(call.state or ()), *module.state_dict().values()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in finite):
        return "the input, the initial state or a weight is not finite"
    return ""


def _place(name: str) -> str:
    return name or "the model"


def _row(module: nn.Module, name: str, reach: Reach) -> Answer:
    """The record of one reach; a reason instead where gradients are no numbers or all zero."""
    logs = reach.logs
    if bool(torch.isnan(logs).any()) or bool((logs == torch.inf).any()):
        why = "the gradient is not finite, even in float64"
        return None, (NotMeasured(WHAT, _place(name), why),)
    means = log_mean(logs.T) + (math.log(logs.shape[1]) if reach.exact else 0.0)
    if not bool(torch.isfinite(means[-1])):
        why = "the gradient at the last step is zero: the output does not depend on its input"
        return None, (NotMeasured(WHAT, _place(name), why),)
    steps = reach.steps[-1] - reach.steps[0]
    growth, per_step = _growth(reach, steps)
    rms = 0.5 * (means - math.log(reach.entries))
    profile = tuple(
        (t, math.exp(value))
        for t, value in zip(reach.steps, rms.tolist(), strict=True)
        if value < _LARGEST
    )
    missing: tuple[NotMeasured, ...] = ()
    if len(profile) < len(reach.steps):
        why = f"{len(reach.steps) - len(profile)} steps lie past the largest float64"
        missing = (NotMeasured("gradient profile over time", _place(name), why),)
    row = RecurrentRow(
        module=name,
        type=type(module).__name__,
        steps=len(reach.steps),
        profile=profile,
        growth_log10=growth,
        growth_per_step=per_step,
        horizon=_horizon(means, reach.steps),
        spectral_radius=spectral_radius(module),
    )
    return row, missing


def _growth(reach: Reach, steps: int) -> tuple[Estimate, Estimate | None]:
    """log10 of the squared gradient at the first over that at the last step, and per step."""
    first, last = reach.logs[0], reach.logs[-1]
    unit, per_unit = "log10 of gain (sum of squares)", "gain per step (sum of squares)"
    if not bool(torch.isfinite(first).any()):
        # Zero, or too small for any float: all that is known is that it lies below the floor.
        floor = reach.floor
        known = Estimate(floor, None, floor, unit)
        return known, Estimate(10 ** (floor / steps), None, 10 ** (floor / steps), per_unit)
    if reach.exact:
        value = low = high = float(first.logsumexp(0) - last.logsumexp(0))
    else:
        value, low, high = log_ratio_interval(first, last)
    growth = Estimate(log10_of(value), _bound(log10_of(low)), _bound(log10_of(high)), unit)
    gains = [_exp(number / steps) for number in (value, low, high)]
    if gains[0] is None:
        return growth, None
    return growth, Estimate(gains[0], gains[1], gains[2], per_unit)


def _bound(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _exp(number: float) -> float | None:
    return math.exp(number) if -_LARGEST < number < _LARGEST else None


def _horizon(means: Tensor, steps: tuple[int, ...]) -> int | None:
    """The smallest lag at which the rms is below 1% of its value at the last step."""
    below = means < means[-1] + 2 * math.log(HORIZON)
    lags = [steps[-1] - t for t, small in zip(steps, below.tolist(), strict=True) if small]
    return min(lags, default=None)
