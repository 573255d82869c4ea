"""What a recurrent layer was given, whatever its form: float64, time first, lengths beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Call:
    """What an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` was given."""

    x: Any
    state: State | None

    @property
    def packed(self) -> bool:
        """Whether its sequences have lengths of their own."""
        return isinstance(self.x, PackedSequence)

    def length(self, module: nn.RNNBase) -> int:
        """Steps of the longest sequence."""
        if isinstance(self.x, PackedSequence):
            return len(self.x.batch_sizes)
        return int(self.x.shape[1 if module.batch_first and self.x.dim() == 3 else 0])


@dataclass(frozen=True)
class Sequences:
    """A few sequences: ``x`` is float64 ``[time, n, features]``, ``lengths`` one number each.

    Past its own length a sequence is padded. ``state`` holds ``[layers x directions, n, size]``.
    """

    x: Tensor
    state: State
    lengths: tuple[int, ...]

    def groups(self) -> dict[int, Sequences]:
        """The sequences of each length, cut to it; the longest first."""
        found = {}
        for length in sorted(set(self.lengths), reverse=True):
            found[length] = self._only([i for i, n in enumerate(self.lengths) if n == length])
        return found

    def longest(self, most: int) -> Sequences:
        """The ``most`` longest of them, the first of equals."""
        order = sorted(range(len(self.lengths)), key=lambda i: -self.lengths[i])
        return self._only(sorted(order[:most]))

    def common(self, most: int) -> Sequences:
        """Sequences at least half as long as the longest, cut to one length of at most ``most``."""
        longest = max(self.lengths)
        alike = self._only([i for i, n in enumerate(self.lengths) if 2 * n >= longest])
        length = min(*alike.lengths, most)
        return Sequences(alike.x[:length], alike.state, (length,) * len(alike.lengths))

    def _only(self, rows: list[int]) -> Sequences:
        lengths = tuple(self.lengths[i] for i in rows)
        state = tuple(part[:, rows] for part in self.state)
        return Sequences(self.x[: max(lengths), rows], state, lengths)


def given_sequences(module: nn.RNNBase, call: Call, most: int) -> Sequences:
    """The ``most`` longest sequences of a call (the first of equals) on the CPU."""
    if isinstance(call.x, PackedSequence):
        x, lengths = pad_packed_sequence(call.x)
        state = call.state
    else:
        x, state = call.x, call.state
        if x.dim() == 2:
            x = x[:, None]
            state = None if state is None else tuple(part[:, None] for part in state)
        elif module.batch_first:
            x = x.transpose(0, 1)
        lengths = torch.full((x.shape[1],), len(x))
    chosen = sorted(lengths.argsort(descending=True, stable=True)[:most].tolist())
    rows = torch.tensor(chosen)
    x = x.detach().to("cpu", torch.float64)[:, rows]
    found = tuple(int(lengths[i]) for i in chosen)
    if state is not None:
        parts = tuple(part.detach().to("cpu", torch.float64)[:, rows] for part in state)
        return Sequences(x, parts, found)
    layers = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [getattr(module, "proj_size", 0) or module.hidden_size]
    sizes += [module.hidden_size] if isinstance(module, nn.LSTM) else []
    return Sequences(x, tuple(x.new_zeros(layers, x.shape[1], size) for size in sizes), found)
