"""Recurrent layers. torch's own kernels where they compute the same, a loop over time otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._gates import Activation
from gradaudit.onnx_graph.operators._recurrence import (
    Layer,
    Setting,
    State,
    Step,
    fused,
    layer,
    outputs,
    scan,
)
from gradaudit.onnx_graph.registry import operator

_kernels: Any = torch._VF


@operator("RNN")
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Tensor, ...]:
    """``h_t = f(W x_t + R h_{t-1} + b)``."""
    names = activations or ["Tanh", "Tanh"]
    setting = Setting(direction, layout, clip, names, activation_alpha, activation_beta)
    given = layer(x, w, r, b, sequence_lens, [initial_h], setting)
    for name, kernel in (("tanh", _kernels.rnn_tanh), ("relu", _kernels.rnn_relu)):
        if given.lengths is None and setting.uses(name):
            return outputs(*fused(kernel, given, setting, [0], given.state[0]), setting)
    steps = [_rnn_step(given, i, *each) for i, each in enumerate(setting.functions(1))]
    return outputs(*scan(given, setting.reverse, steps), setting)


def _rnn_step(given: Layer, i: int, f: Activation) -> Step:
    _, r, _, bias, _ = given.direction(i)
    return lambda gates, state: (f(gates + F.linear(state[0], r, bias)),)


@operator("LSTM")
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order input, output, forget, cell; ``p``: peepholes of the first three."""
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * 2
    setting = Setting(direction, layout, clip, names, activation_alpha, activation_beta)
    given = layer(x, w, r, b, sequence_lens, [initial_h, initial_c], setting)
    plain = given.lengths is None and p is None and not input_forget
    if plain and setting.uses("sigmoid", "tanh", "tanh"):
        y, state = fused(_kernels.lstm, given, setting, [0, 2, 3, 1], given.state)
        return outputs(y, state, setting)
    # as runtimes do, only the gates' inputs are clipped, not the cell on its way out
    unclipped = replace(setting, clip=None).functions(3)
    steps = [
        _lstm_step(given, i, None if p is None else p[i], bool(input_forget), (f, g, h))
        for i, ((f, g, _), (_, _, h)) in enumerate(
            zip(setting.functions(3), unclipped, strict=True)
        )
    ]
    return outputs(*scan(given, setting.reverse, steps), setting)


def _lstm_step(
    given: Layer, i: int, p: Tensor | None, coupled: bool, functions: Sequence[Activation]
) -> Step:
    _, r, _, bias, _ = given.direction(i)
    f, g, h = functions
    zero = r.new_zeros(())
    p_in, p_out, p_forget = (zero,) * 3 if p is None else p.chunk(3)

    def step(gates: Tensor, state: State) -> State:
        hidden, cell = state
        i_t, o_t, f_t, c_t = (gates + F.linear(hidden, r, bias)).chunk(4, -1)
        let_in = f(i_t + p_in * cell)
        keep = 1 - let_in if coupled else f(f_t + p_forget * cell)
        after = keep * cell + let_in * g(c_t)
        return f(o_t + p_out * after) * h(after), after

    return step


@operator("GRU")
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> tuple[Tensor, ...]:
    """Gates in the order update, reset, hidden: ``h_t = (1 - z) g(...) + z h_{t-1}``."""
    names = activations or ["Sigmoid", "Tanh"] * 2
    setting = Setting(direction, layout, clip, names, activation_alpha, activation_beta)
    given = layer(x, w, r, b, sequence_lens, [initial_h], setting)
    if given.lengths is None and linear_before_reset and setting.uses("sigmoid", "tanh"):
        y, state = fused(_kernels.gru, given, setting, [1, 0, 2], given.state[0])
        return outputs(y, state, setting)
    steps = [
        _gru_step(given, i, bool(linear_before_reset), each)
        for i, each in enumerate(setting.functions(2))
    ]
    return outputs(*scan(given, setting.reverse, steps), setting)


def _gru_step(given: Layer, i: int, linear_first: bool, functions: Sequence[Activation]) -> Step:
    _, r, _, bias, _ = given.direction(i)
    f, g = functions
    size = r.shape[-1]
    r_gates, r_hidden = r[: 2 * size], r[2 * size :]
    b_gates, b_hidden = (None, None) if bias is None else (bias[: 2 * size], bias[2 * size :])

    def step(gates: Tensor, state: State) -> State:
        (hidden,) = state
        own = gates[..., : 2 * size] + F.linear(hidden, r_gates, b_gates)
        update, reset = f(own).chunk(2, -1)
        if linear_first:
            recurrent = reset * F.linear(hidden, r_hidden, b_hidden)
        else:
            recurrent = F.linear(reset * hidden, r_hidden, b_hidden)
        return ((1 - update) * g(gates[..., 2 * size :] + recurrent) + update * hidden,)

    return step
