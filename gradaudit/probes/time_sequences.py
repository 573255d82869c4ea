"""Gradients back through the steps of one ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, in float64.

float32 does not reach far enough: an LSTM over 300 steps underflows to exactly 0.0. So the layer is
rebuilt in float64 and differentiated in spans of a few steps; between spans the cotangent is
rescaled and the logarithm of the scale kept, so a profile may run over any number of decades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes.time_packed import Sequences, State

SEQUENCES = 4  # of those given; each adds independent samples to every probe
SAMPLES = 32  # probes x sequences at the least
ROWS = 64  # probes x sequences differentiated at once: bounds the memory
SPAN = 32  # steps between rescalings: a gain of 1e9 per step still stays inside float64
PLAIN_FORWARDS = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward)


@dataclass(frozen=True)
class Reach:
    """How far gradients reached back: what a profile over time is made of.

    ``logs``: float64 ``[steps, probes]``, natural log of the squared gradient norm at each step,
    summed over sequences. ``entries``: how many numbers that norm was taken over. ``exact``: the
    probes are all unit vectors of the output, so that their sum is the Jacobian's norm itself.
    ``floor``: log10 below which a squared gradient reads 0. The last row is where the cotangent
    enters, the first the step farthest from it; ``steps`` says which step each is.
    """

    logs: Tensor
    entries: int
    exact: bool
    floor: float
    steps: tuple[int, ...]
    longest: Tensor | None = None  # ``logs`` of the longest sequences alone; None: all are

    @property
    def ends(self) -> Tensor:
        """``logs`` of sequences that run from the first step to the last."""
        return self.logs if self.longest is None else self.longest


def log_squares(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Natural log of the sum of squares over ``dims``; -inf for zeros, without underflow."""
    peak = tensor.abs().amax(dim=dims, keepdim=True)
    scale = torch.where(peak > 0, peak, torch.ones_like(peak))
    squares = (tensor / scale).square().sum(dim=dims)
    return squares.log() + 2 * scale.log().reshape(squares.shape)


def spectral_radius(module: nn.Module) -> float | None:
    """Largest ``|eigenvalue|`` of the recurrent weights over layers; ``None`` for gated layers."""
    if isinstance(module, nn.RNN):
        weights = [getattr(module, f"weight_hh_l{k}") for k in range(module.num_layers)]
    elif isinstance(module, nn.RNNCell):
        weights = [module.weight_hh]
    else:
        return None
    weights = [weight.detach().double().cpu() for weight in weights]
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        return None
    return max(float(torch.linalg.eigvals(weight).abs().max()) for weight in weights)


def rebuild(module: nn.RNNBase) -> nn.RNNBase:
    """The same layer in float64, time first and without dropout, holding the same weights.

    Rebuilt rather than deep-copied: parametrized weights (weight norm, spectral norm) refuse to be
    copied, but can be read.
    """
    options: dict[str, Any] = {
        "num_layers": module.num_layers,
        "bias": module.bias,
        "bidirectional": module.bidirectional,
        "dtype": torch.float64,
    }
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    elif isinstance(module, nn.LSTM):
        options["proj_size"] = module.proj_size
    kind = next(k for k in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(module, k))
    # By way of the meta device: the layer's own initialization would draw random numbers.
    copy: nn.RNNBase = kind(module.input_size, module.hidden_size, device="meta", **options)
    copy = copy.to_empty(device="cpu")
    with torch.no_grad():
        for name in list(copy.state_dict()):
            getattr(copy, name).copy_(getattr(module, name))
    return copy.requires_grad_(False)


def sequence_reaches(
    layer: nn.RNNBase, given: Sequences, probes: int, generator: torch.Generator
) -> dict[str, Reach]:
    """Squared norms of ``d last output / d input at t`` for every t, by direction.

    ``layer`` is :func:`rebuild`'s. ``"forward"``: from the top layer's forward half at each
    sequence's own last step, back to the first; ``"backward"``, of a bidirectional layer: from the
    other half at the first step, on to the last. Cotangents are N(0, I), or all unit vectors where
    those are no more. Sequences of unequal length are aligned by lag: at each lag stands the mean
    over those that reach so far, and the growth is that of the longest.
    """
    if not layer.bidirectional:
        return {"forward": _reach(layer, given.longest(SEQUENCES), False, probes, generator)}
    halved = given.longest(SEQUENCES // 2)  # two directions for the price of one
    return {
        direction: _reach(layer, halved, direction == "backward", probes, generator)
        for direction in ("forward", "backward")
    }


def _reach(
    layer: nn.RNNBase, given: Sequences, backward: bool, probes: int, generator: torch.Generator
) -> Reach:
    outputs = getattr(layer, "proj_size", 0) or layer.hidden_size
    count, features = given.x.shape[1:]
    least = SAMPLES // 2 if layer.bidirectional else SAMPLES
    probes = max(probes, least // count)
    exact = outputs <= probes
    parts: list[tuple[int, Tensor]] = []
    for group in given.groups().values():
        n = group.x.shape[1]
        cotangents = (
            torch.eye(outputs, dtype=torch.float64)[:, None].expand(-1, n, -1)
            if exact
            else torch.randn(probes, n, outputs, dtype=torch.float64, generator=generator)
        )
        spans = _spans(layer, group)
        pulled = [
            _pull_back(layer, spans, some, backward) for some in cotangents.split(max(1, ROWS // n))
        ]
        parts.append((n, torch.cat(pulled, dim=1)))
    steps = tuple(range(max(given.lengths)))
    return Reach(
        _by_lag(parts),
        count * features,
        exact,
        -600.0,
        steps[::-1] if backward else steps,
        longest=parts[0][1],
    )


def _by_lag(parts: list[tuple[int, Tensor]]) -> Tensor:
    """``[steps, probes]`` of the longest; at each lag the mean of those that reach, x their all."""
    total = sum(n for n, _ in parts)
    rows: list[Tensor] = []
    for lag in range(len(parts[0][1])):
        reaching = [(n, logs[-1 - lag]) for n, logs in parts if len(logs) > lag]
        scale = math.log(total / sum(n for n, _ in reaching))
        rows.insert(0, torch.stack([row for _, row in reaching]).logsumexp(dim=0) + scale)
    return torch.stack(rows)


def _run(layer: nn.RNNBase, x: Tensor, state: State) -> tuple[Tensor, State]:
    output, last = layer(x, state if isinstance(layer, nn.LSTM) else state[0])
    return output, last if isinstance(last, tuple) else (last,)


def _spans(layer: nn.RNNBase, given: Sequences) -> list[tuple[Tensor, State]]:
    """Inputs of a few steps each, and the state before them."""
    # A bidirectional layer's state runs both ways: there is no place to cut.
    inputs = given.x.split(len(given.x) if layer.bidirectional else SPAN)
    states = [given.state]
    with torch.no_grad():
        for part in inputs[:-1]:
            states.append(_run(layer, part, states[-1])[1])
    return list(zip(inputs, states, strict=True))


def _pull_back(
    layer: nn.RNNBase, spans: list[tuple[Tensor, State]], cotangents: Tensor, backward: bool
) -> Tensor:
    """``[time, probes]`` log squared gradient norms at the inputs for ``[probes, batch, out]``.

    Farthest from where the cotangent enters first: in the order of time, or against it.
    """
    probes, n, outputs = cotangents.shape
    carried: State = (cotangents.reshape(probes * n, outputs),)
    log_scale = torch.zeros(probes * n, dtype=torch.float64)
    logs: list[Tensor] = []
    for part, before in reversed(spans):
        inputs = part.repeat(1, probes, 1).requires_grad_()
        state = tuple(s.repeat(1, probes, 1).requires_grad_() for s in before)
        with torch.enable_grad():
            output, last = _run(layer, inputs, state)
            end = output[0, :, outputs:] if backward else output[-1, :, :outputs]
            targets = last if logs else (end,)
            at_input, *carried_back = torch.autograd.grad(targets, (inputs, *state), carried)
        rows = log_squares(at_input, (2,)) + 2 * log_scale
        logs.insert(0, rows.unflatten(1, (probes, n)).logsumexp(dim=2))
        carried, log_scale = _rescaled(tuple(carried_back), log_scale)
    found = torch.cat(logs)
    return found.flip(0) if backward else found


def _rescaled(carried: State, log_scale: Tensor) -> tuple[State, Tensor]:
    """Each row of the carried cotangent at unit peak, the factor moved into ``log_scale``."""
    peak = torch.stack([part.abs().amax(dim=(0, 2)) for part in carried]).amax(dim=0)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    return tuple(part / peak[:, None] for part in carried), log_scale + peak.log()


def log10_of(natural: float) -> float:
    """Natural to decimal logarithm."""
    return natural / math.log(10)
