"""How the gradient at the last step reaches back through time, for every recurrent module.

The number behind vanishing and exploding through time (Bengio et al. 1994; Pascanu et al. 2013,
arXiv 1211.5063): the norm of ``d last output / d input at t`` for every t, of layers
(:mod:`time_sequences`) and of cells called in a loop (:mod:`time_loops`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradaudit.probes.lyapunov import SEQUENCES, Dynamics, gate_mean, layer_dynamics
from gradaudit.probes.lyapunov import WHAT as EXPONENTS
from gradaudit.probes.time_gates import is_gated
from gradaudit.probes.time_loops import find_loops, may_loop
from gradaudit.probes.time_loss import loss_reach
from gradaudit.probes.time_packed import Call, given_sequences
from gradaudit.probes.time_rows import WHAT, Answer, place, row_of
from gradaudit.probes.time_sequences import (
    PLAIN_FORWARDS,
    rebuild,
    sequence_reaches,
)
from gradaudit.probes.time_states import loop_exponents
from gradaudit.probes.trace import Trace
from gradaudit.records import NotMeasured, RecurrentRow
from gradaudit.settings import Settings
from gradaudit.subject.opened import Opened


def measure_through_time(
    opened: Opened, settings: Settings, trace: Trace | None = None
) -> tuple[tuple[RecurrentRow, ...], tuple[NotMeasured, ...]]:
    """A row for each recurrent module used on the first batch, and what could not be measured.

    ``profile[t]`` is the root mean square of ``J_t^T u`` for u ~ N(0, I) at the last output, J_t
    the Jacobian with respect to the input (of a cell: the state) at t; ``growth_log10`` has a 95%
    interval over the cotangents. A bidirectional layer has two rows: its backward half reaches from
    the first step to the last. Beside it Lyapunov exponents (:mod:`lyapunov`) and the mean of the
    gates that keep the state.

    Cost: a forward pass, then per layer ``probes`` passes over four sequences in float64, and from
    standard effort on its exponents on eight (2 to 5 training steps of 32 sequences); per
    hand-written loop one more forward and ``probes`` backward passes, and for its exponents about
    three more. Nothing where ``trace``, another probe's pass of the same batch, shows no call that
    could be recurrent.

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
    answers: list[Answer] = []
    for name, calls in layers.items():
        answers += _layer(opened.model.get_submodule(name), name, calls, settings, generator)
    if looping:
        answers += _loops(opened, looping, settings, generator)
    reached = loss_reach(opened, layers)
    rows = tuple(
        replace(row, loss_growth_log10=reached.get((row.module, row.direction)))
        for row, _ in answers
        if row is not None
    )
    # both directions of a layer may miss the same for the same reason
    return rows, tuple(dict.fromkeys(item for _, missing in answers for item in missing))


def _recurs(model: nn.Module, trace: Trace) -> bool:
    """Whether a recurrent layer, or a module often enough for a loop, was called."""
    called = {name: model.get_submodule(name) for name in {c.module for c in trace.calls}}
    counts = Counter(call.module for call in trace.calls)
    return any(isinstance(m, nn.RNNBase) or may_loop(m, counts[n]) for n, m in called.items())


def _watch(opened: Opened) -> tuple[dict[str, list[Call]], list[str]]:
    """Run the first batch: the calls of recurrent layers, and the names that may be loops."""
    assert opened.model is not None
    layers: dict[str, list[Call]] = {}
    counts: dict[str, int] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            counts[name] = counts.get(name, 0) + 1
            if isinstance(module, nn.RNNBase):
                layers.setdefault(name, []).append(_given(module, args, kwargs))

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
    one_step = {
        name for name, calls in layers.items() if all(c.length(modules[name]) == 1 for c in calls)
    }
    looping = [
        name
        for name, calls in counts.items()
        if may_loop(modules[name], calls) and (name not in layers or name in one_step)
    ]
    return {name: layers[name] for name in layers if name not in looping}, looping


def _given(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    x = args[0] if args else kwargs["input"]
    initial_states = getattr(module, "initial_states", None)  # of an ONNX graph's node
    if initial_states is not None:
        return Call(x, initial_states(args) or None)
    state = args[1] if len(args) > 1 else kwargs.get("hx")
    return Call(x, (state,) if isinstance(state, Tensor) else state)


def _layer(
    module: nn.Module, name: str, calls: list[Call], settings: Settings, generator: torch.Generator
) -> list[Answer]:
    """Measure the longest call of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, in each direction."""
    assert isinstance(module, nn.RNNBase)
    call = max(calls, key=lambda c: c.length(module))
    why = _hindrance(module, call)
    if why:
        return [(None, (NotMeasured(WHAT, place(name), why),))]
    layer, given = rebuild(module), given_sequences(module, call, SEQUENCES)
    reaches = sequence_reaches(layer, given, settings.budget.probes, generator)
    dynamics = layer_dynamics(layer, given, settings.effort, generator)
    answers = []
    for direction, reach in reaches.items():
        row, missing = row_of(module, name, reach)
        if row is not None:
            row = replace(row, direction=direction, packed=call.packed)
        answers.append(_with(row, missing, name, dynamics[direction]))
    if len(calls) > 1:
        why = f"called {len(calls)} times; only the longest sequence was measured"
        answers.append((None, (NotMeasured(WHAT, place(name), why),)))
    return answers


def _loops(
    opened: Opened, looping: list[str], settings: Settings, generator: torch.Generator
) -> list[Answer]:
    """Measure those of the modules that are called on their own earlier output."""
    assert opened.model is not None
    model, batch = opened.model, opened.batches[0]
    loops = find_loops(model, batch, looping, settings.budget.probes, generator)
    if not loops:
        return []
    reached = {name: loop.reach.steps for name, loop in loops.items()}
    exponents = loop_exponents(model, batch, reached, settings.effort, generator)
    answers = []
    for name, loop in loops.items():
        gate, cell = None if loop.gate is None else gate_mean(loop.gate), model.get_submodule(name)
        row, missing = row_of(cell, name, loop.reach)
        if row is not None and gate is None and is_gated(cell):
            why = "how open its gates stand cannot be read off its calls"
            missing = (*missing, NotMeasured("forget gate", place(name), why))
        answers.append(_with(row, missing, name, Dynamics(*exponents[name], gate)))
    return answers


def _with(
    row: RecurrentRow | None, missing: tuple[NotMeasured, ...], name: str, dynamics: Dynamics
) -> Answer:
    """The row with its exponents and gate; without exponents, the reason."""
    if row is None:
        return None, missing
    row = replace(row, lyapunov=dynamics.exponents, forget_gate=dynamics.gate)
    if dynamics.why:
        missing = (*missing, NotMeasured(EXPONENTS, place(name), dynamics.why))
    return row, missing


def _hindrance(module: nn.RNNBase, call: Call) -> str:
    if type(module).forward not in PLAIN_FORWARDS and not hasattr(module, "as_torch"):
        return f"{type(module).__name__} has a forward of its own, unlike torch's layer"
    if call.length(module) < 2:
        return "a sequence of one step has no time to reach back through"
    x = call.x.data if isinstance(call.x, PackedSequence) else call.x
    finite = [x, *(call.state or ()), *module.parameters()]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in finite):
        return "the input, the initial state or a weight is not finite"
    return ""
