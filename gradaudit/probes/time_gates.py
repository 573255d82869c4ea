"""Torch's recurrent layers unrolled: gates and state Jacobians in closed form, at every step.

A layer of a stack is driven by the layer below and never feeds back to it, so the joint Jacobian of
a stack is block triangular: the exponents of the stack are those of its layers together, and each
layer (and each direction) can be unrolled on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gradaudit.probes.time_packed import State


class Unrolled(Protocol):
    """One direction of one layer along its own trajectory; all tensors float64 ``[T, n, H]``."""

    size: int  # of the state: 2 H of an LSTM, (h, c)
    sequences: int  # n
    outputs: Tensor
    keep: Tensor | None  # forget gate of an LSTM, update gate of a GRU; no gate: None

    def push(self, t: int, frame: Tensor) -> Tensor:
        """``J_t Q``: the state's derivative over step t (``[n, size, k]``)."""
        ...


def unroll(layer: nn.RNNBase, x: Tensor, state: State) -> Iterator[Unrolled]:
    """Every layer and direction of ``layer``, from the input upwards; forward before backward.

    ``layer`` is float64 and time first without dropout, ``x`` is ``[T, n, F]``, ``state`` its
    initial state. The backward direction is unrolled in its own order: the last step first.
    """
    directions = 2 if layer.bidirectional else 1
    below = x
    for k in range(layer.num_layers):
        outputs = []
        for d in range(directions):
            weights = _weights(layer, f"_l{k}{'_reverse' if d else ''}")
            start = tuple(part[k * directions + d] for part in state)
            unrolled = _KINDS[type(layer)](layer, weights, below.flip(0) if d else below, start)
            yield unrolled
            outputs.append(unrolled.outputs.flip(0) if d else unrolled.outputs)
        below = torch.cat(outputs, dim=2)


@dataclass(frozen=True)
class _Weights:
    ih: Tensor
    hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    hr: Tensor | None  # projection of an LSTM


def _weights(layer: nn.RNNBase, suffix: str) -> _Weights:
    def get(name: str) -> Tensor | None:
        value = getattr(layer, name + suffix, None)
        return None if value is None else value.detach()

    ih, hh = get("weight_ih"), get("weight_hh")
    assert ih is not None
    assert hh is not None
    zero = ih.new_zeros(len(ih))
    first, second = get("bias_ih"), get("bias_hh")
    return _Weights(
        ih, hh, zero if first is None else first, zero if second is None else second,
        get("weight_hr"),
    )  # fmt: skip


def _times(matrix: Tensor, frame: Tensor) -> Tensor:
    """``matrix @ frame`` for ``[n, d, k]`` frames as one product, not n thin ones."""
    return (frame.mT.reshape(-1, frame.shape[1]) @ matrix.T).unflatten(0, (len(frame), -1)).mT


class _RNN:
    """``h' = phi(W h + ...)``, so ``J = diag(phi') W``."""

    keep: Tensor | None = None

    def __init__(self, layer: nn.RNNBase, w: _Weights, x: Tensor, state: State) -> None:
        relu = getattr(layer, "nonlinearity", "tanh") == "relu"
        driven, h, steps = x @ w.ih.T + w.bias_ih + w.bias_hh, state[0], []
        for pre in driven:
            h = pre + h @ w.hh.T
            h = h.relu() if relu else h.tanh()
            steps.append(h)
        self.outputs = torch.stack(steps)
        self.sequences, self.size = self.outputs.shape[1:]
        self._slope = (self.outputs > 0).double() if relu else 1 - self.outputs.square()
        self._hh = w.hh

    def push(self, t: int, frame: Tensor) -> Tensor:
        """``[n, H, k]`` to ``[n, H, k]``."""
        return self._slope[t].unsqueeze(2) * _times(self._hh, frame)


class _LSTM:
    """State ``(h, c)``: ``c' = f c + i g``, ``h' = P (o tanh c')``, P the projection if any."""

    def __init__(self, _layer: nn.RNNBase, w: _Weights, x: Tensor, state: State) -> None:
        driven = x @ w.ih.T + w.bias_ih + w.bias_hh
        h, c = state
        outputs, gates, cells = [], [], [c]
        for pre in driven:
            i, f, g, o = (pre + h @ w.hh.T).chunk(4, dim=1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * c + i * g
            h = o * c.tanh() if w.hr is None else (o * c.tanh()) @ w.hr.T
            outputs.append(h)
            cells.append(c)
            gates.append(torch.stack([i, f, g, o]))
        self.outputs = torch.stack(outputs)
        i, f, g, o = torch.stack(gates, dim=1)
        before, after = torch.stack(cells[:-1]), torch.stack(cells[1:]).tanh()
        self.keep: Tensor | None = f
        self.sequences, self.size = len(h), h.shape[1] + c.shape[1]
        # d c' / d (pre-activation of i, f, g), and d h~ / d c', d h~ / d (pre-activation of o)
        self._to_cell = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], dim=2)
        self._from_cell, self._from_gate = o * (1 - after.square()), after * o * (1 - o)
        self._w = w

    def push(self, t: int, frame: Tensor) -> Tensor:
        """``[n, H + H, k]`` to the same; the first rows are h."""
        hidden = self._w.hh.shape[1]
        dh, dc = frame[:, :hidden], frame[:, hidden:]
        pre = _times(self._w.hh, dh)
        width = dc.shape[1]
        to_cell = pre[:, : 3 * width].unflatten(1, (3, width))
        assert self.keep is not None
        dc = self.keep[t].unsqueeze(2) * dc
        dc = dc + (self._to_cell[t].unsqueeze(3) * to_cell).sum(dim=1)
        dh = self._from_cell[t].unsqueeze(2) * dc
        dh = dh + self._from_gate[t].unsqueeze(2) * pre[:, 3 * width :]
        return torch.cat([dh if self._w.hr is None else _times(self._w.hr, dh), dc], dim=1)


class _GRU:
    """``h' = (1 - z) n + z h`` with ``n = tanh(... + r (W_n h + b_n))``."""

    def __init__(self, _layer: nn.RNNBase, w: _Weights, x: Tensor, state: State) -> None:
        driven, h, rows = x @ w.ih.T + w.bias_ih, state[0], []
        for pre in driven:
            r_in, z_in, n_in = pre.chunk(3, dim=1)
            r_h, z_h, n_h = (h @ w.hh.T + w.bias_hh).chunk(3, dim=1)
            r, z = (r_in + r_h).sigmoid(), (z_in + z_h).sigmoid()
            n = (n_in + r * n_h).tanh()
            rows.append(torch.stack([r, z, n, n_h, h]))
            h = (1 - z) * n + z * h
        r, z, n, n_h, before = torch.stack(rows, dim=1)
        self.outputs = (1 - z) * n + z * before
        self.keep: Tensor | None = z
        self.sequences, self.size = h.shape
        to_new = (1 - z) * (1 - n * n)
        # d h' / d (W h of r, z, n), in the order of torch's rows
        self._to_state = torch.stack(
            [to_new * n_h * r * (1 - r), (before - n) * z * (1 - z), to_new * r], dim=2
        )
        self._hh = w.hh

    def push(self, t: int, frame: Tensor) -> Tensor:
        """``[n, H, k]`` to ``[n, H, k]``."""
        pre = _times(self._hh, frame).unflatten(1, (3, self.size))
        through = (self._to_state[t].unsqueeze(3) * pre).sum(dim=1)
        assert self.keep is not None
        return self.keep[t].unsqueeze(2) * frame + through


_KINDS: dict[type[nn.Module], type[_RNN | _LSTM | _GRU]] = {
    nn.RNN: _RNN,
    nn.LSTM: _LSTM,
    nn.GRU: _GRU,
}


_GATED: dict[type[nn.Module], int] = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.LSTM: 4, nn.GRU: 3}


def is_gated(module: nn.Module) -> bool:
    """Whether it is, or holds, a layer or cell with a gate that keeps the state."""
    return any(isinstance(m, tuple(_GATED)) for m in module.modules())


def cell_gate(module: nn.Module, given: tuple[Any, ...]) -> Tensor | None:
    """Mean over units of an LSTM cell's forget or a GRU cell's update gate, float64 ``[n]``.

    The same of a layer called with one step, if it is one layer in one direction; ``None`` for any
    other module. ``given`` is what it was called with: input, then state.
    """
    x, state = (*given, None, None)[:2]
    if type(module) not in _GATED or not isinstance(x, Tensor):
        return None
    suffix = ""
    if isinstance(module, nn.RNNBase):
        if module.num_layers > 1 or module.bidirectional:
            return None
        suffix = "_l0"
    h = state[0] if isinstance(state, (tuple, list)) else state
    ih, hh, bias_ih, bias_hh = (
        getattr(module, name + suffix, None)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    assert ih is not None
    assert hh is not None
    pre: Tensor = x.reshape(-1, x.shape[-1]) @ ih.T
    if h is not None:
        pre = pre + h.reshape(-1, h.shape[-1]) @ hh.T
    if bias_ih is not None:
        pre = pre + bias_ih + bias_hh
    gate = pre.chunk(_GATED[type(module)], dim=-1)[1].sigmoid()
    return gate.mean(dim=-1).double().cpu()
