"""What RNN, LSTM and GRU share: layouts, directions, lengths, and the loop over time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._gates import Activation, activations

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]  # the input's part of the gates, and the state before it

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Setting:
    """The attributes of a recurrent layer."""

    direction: str
    layout: int
    clip: float | None
    activations: Sequence[str]  # of all directions
    alpha: Sequence[float] | None
    beta: Sequence[float] | None

    @property
    def reverse(self) -> tuple[bool, ...]:
        """Whether each direction goes back in time."""
        if self.direction not in _DIRECTIONS:
            raise ValueError(
                f"expected a direction of {list(_DIRECTIONS)}, found {self.direction!r}"
            )
        return _DIRECTIONS[self.direction]

    def functions(self, each: int) -> list[list[Activation]]:
        """Per direction, its ``each`` activation functions."""
        directions = len(self.reverse)
        needed = directions * each
        if len(self.activations) < needed:
            raise ValueError(f"expected {needed} activations, found {list(self.activations)}")
        names = self.activations[:needed]
        made = activations(names, self.alpha, self.beta, self.clip)
        return [made[i * each : (i + 1) * each] for i in range(directions)]

    def uses(self, *names: str) -> bool:
        """Whether these, unclipped, are the activations in every direction."""
        given = [name.lower() for name in self.activations[: len(names) * len(self.reverse)]]
        return self.clip is None and given == list(names) * len(self.reverse)


@dataclass(frozen=True)
class Layer:
    """A layer's tensors, time first: ``x [T, N, I]``, ``w [D, G·H, I]``, ``r [D, G·H, H]``."""

    x: Tensor
    w: Tensor
    r: Tensor
    b: Tensor | None  # [D, 2·G·H]
    lengths: Tensor | None  # [N]
    state: State  # each [D, N, H]

    def direction(self, i: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, State]:
        """``w``, ``r``, both biases and the state of direction ``i``."""
        own, recurrent = (None, None) if self.b is None else self.b[i].chunk(2)
        return self.w[i], self.r[i], own, recurrent, tuple(each[i] for each in self.state)


def layer(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    states: Sequence[Tensor | None],
    setting: Setting,
) -> Layer:
    """The tensors of a layer in time-first order, with zeros for a state that is left out.

    Raises ``ValueError`` where their sizes disagree: torch's kernels do not look, and read beyond.
    """
    if x.dim() != 3:
        raise ValueError(f"expected X of 3 dimensions, found {x.dim()}")
    if w.shape[0] != len(setting.reverse):
        raise ValueError(
            f"expected weights of {len(setting.reverse)} directions, found {w.shape[0]}"
        )
    if setting.layout:
        x = x.transpose(0, 1)
        states = [None if each is None else each.transpose(0, 1) for each in states]
    if lengths is not None and lengths.tolist() == [x.shape[0]] * x.shape[1]:
        lengths = None
    blank = x.new_zeros(w.shape[0], x.shape[1], r.shape[-1])
    given = Layer(x, w, r, b, lengths, tuple(blank if s is None else s for s in states))
    _check_sizes(given)
    return given


def _check_sizes(given: Layer) -> None:
    directions, gates, hidden = given.w.shape[0], given.w.shape[1], given.r.shape[-1]
    batch = given.x.shape[1]
    wanted: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("W", given.w, (directions, gates, given.x.shape[2])),
        ("R", given.r, (directions, gates, hidden)),
        ("B", given.b, (directions, 2 * gates)),
        ("sequence_lens", given.lengths, (batch,)),
        *(("an initial state", each, (directions, batch, hidden)) for each in given.state),
    ]
    for name, tensor, sizes in wanted:
        if tensor is not None and tuple(tensor.shape) != sizes:
            raise ValueError(f"expected {name} of sizes {sizes}, found {tuple(tensor.shape)}")


def outputs(y: Tensor, state: State, setting: Setting) -> tuple[Tensor, ...]:
    """``y [T, D, N, H]`` and the last states ``[D, N, H]`` in the layout asked for."""
    if not setting.layout:
        return (y, *state)
    return (y.permute(2, 0, 1, 3), *(each.transpose(0, 1) for each in state))


def scan(given: Layer, reverse: Sequence[bool], steps: Sequence[Step]) -> tuple[Tensor, State]:
    """Run each direction's step over time: all hidden states, and the last state.

    Beyond a sequence's own length its state stays and its output is zero.
    """
    ran = [_scan(given, i, back, steps[i]) for i, back in enumerate(reverse)]
    y = torch.stack([y for y, _ in ran], 1)
    return y, tuple(torch.stack(each) for each in zip(*[state for _, state in ran], strict=True))


def _scan(given: Layer, i: int, back: bool, step: Step) -> tuple[Tensor, State]:
    w, _, bias, _, state = given.direction(i)
    gates = F.linear(given.x, w, bias)
    times = range(len(gates))
    hidden: list[Tensor] = []
    for t in reversed(times) if back else times:
        after = step(gates[t], state)
        if given.lengths is None:
            state = after
            hidden.append(after[0])
        else:
            within = (t < given.lengths)[:, None]
            state = tuple(torch.where(within, a, s) for a, s in zip(after, state, strict=True))
            hidden.append(after[0].masked_fill(~within, 0))
    return torch.stack(hidden[::-1] if back else hidden), state


def fused(
    kernel: Callable[..., tuple[Tensor, ...]],
    given: Layer,
    setting: Setting,
    order: Sequence[int],
    initial: Any,
) -> tuple[Tensor, State]:
    """Run torch's own kernel; ``order``: ONNX's gates in torch's order."""
    sizes = (len(order), given.r.shape[-1])

    def sorted_gates(weight: Tensor) -> Tensor:
        return (
            torch.cat([weight.unflatten(0, sizes)[i] for i in order]) if len(order) > 1 else weight
        )

    weights = []
    for i in range(len(setting.reverse)):
        w, r, own, recurrent, _ = given.direction(i)
        weights += [sorted_gates(each) for each in (w, r, own, recurrent) if each is not None]
    x = given.x.flip(0) if setting.direction == "reverse" else given.x
    both = len(setting.reverse) == 2
    with warnings.catch_warnings():
        # cuDNN would rather have the weights in one piece; they are the model's own tensors
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
        y, *state = kernel(x, initial, weights, given.b is not None, 1, 0.0, False, both, False)
    y = y.unflatten(-1, (len(setting.reverse), -1)).transpose(1, 2)
    return (y.flip(0) if setting.direction == "reverse" else y), tuple(state)
