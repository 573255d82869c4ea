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

SEQUENCES = 4  # of the batch; each adds independent samples to every probe
ROWS = 64  # probes x sequences differentiated at once: bounds the memory
SPAN = 32  # steps between rescalings: a gain of 1e9 per step still stays inside float64
PLAIN_FORWARDS = (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward)

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Reach:
    """How far gradients reached back: what a profile over time is made of.

    ``logs``: float64 ``[steps, probes]``, natural log of the squared gradient norm at each step,
    summed over sequences. ``entries``: how many numbers that norm was taken over. ``exact``: the
    probes are all unit vectors of the output, so that their sum is the Jacobian's norm itself.
    ``floor``: log10 below which a squared gradient reads 0.
    """

    logs: Tensor
    entries: int
    exact: bool
    floor: float
    steps: tuple[int, ...]


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


def sequence_reach(
    module: nn.RNNBase, x: Tensor, state: State | None, probes: int, generator: torch.Generator
) -> Reach:
    """Squared norms of ``d last output / d input at t`` for every t, by random cotangents.

    ``x`` is ``[time, features]`` or batched as the layer takes it, ``state`` what the layer was
    given (``None``: zeros). Cotangents are N(0, I) at the top layer's output of the last step (of a
    bidirectional layer: its forward half), or all unit vectors where those are no more. The first
    four sequences of the batch are used. Runs on the CPU, which has float64 everywhere.
    """
    layer = rebuild(module)
    x, states = _time_first(module, x, state)
    directions = 2 if module.bidirectional else 1
    outputs = getattr(module, "proj_size", 0) or module.hidden_size
    steps, n, features = x.shape
    probes = max(probes, 32 // n)
    exact = outputs <= probes
    cotangents = (
        torch.eye(outputs, dtype=torch.float64)[:, None].expand(-1, n, -1)
        if exact
        else torch.randn(probes, n, outputs, dtype=torch.float64, generator=generator)
    )
    # A bidirectional layer's state runs both ways: there is no place to cut.
    span = SPAN if directions == 1 else steps
    starts = _states_at(layer, x, states, span)
    logs = [
        _pull_back(layer, x, starts, span, group) for group in cotangents.split(max(1, ROWS // n))
    ]
    return Reach(torch.cat(logs, dim=1), n * features, exact, -600.0, tuple(range(steps)))


def _time_first(module: nn.RNNBase, x: Tensor, state: State | None) -> tuple[Tensor, State]:
    """The first sequences as float64 ``[time, batch, features]`` and their initial state."""
    x = x.detach().to("cpu", torch.float64)
    if x.dim() == 2:
        x = x[:, None]
        state = None if state is None else tuple(part[:, None] for part in state)
    elif module.batch_first:
        x = x.transpose(0, 1)
    x = x[:, :SEQUENCES]
    if state is None:
        rows = module.num_layers * (2 if module.bidirectional else 1)
        sizes = [getattr(module, "proj_size", 0) or module.hidden_size]
        sizes += [module.hidden_size] if isinstance(module, nn.LSTM) else []
        return x, tuple(x.new_zeros(rows, x.shape[1], size) for size in sizes)
    return x, tuple(part.detach().to("cpu", torch.float64)[:, :SEQUENCES] for part in state)


def _run(layer: nn.RNNBase, x: Tensor, state: State) -> tuple[Tensor, State]:
    output, last = layer(x, state if isinstance(layer, nn.LSTM) else state[0])
    return output, last if isinstance(last, tuple) else (last,)


def _states_at(layer: nn.RNNBase, x: Tensor, state: State, span: int) -> list[State]:
    """The state before each span of steps."""
    starts = [state]
    with torch.no_grad():
        for part in x.split(span)[:-1]:
            starts.append(_run(layer, part, starts[-1])[1])
    return starts


def _pull_back(
    layer: nn.RNNBase, x: Tensor, starts: list[State], span: int, cotangents: Tensor
) -> Tensor:
    """``[time, probes]`` log squared gradient norms at the inputs for ``[probes, batch, out]``."""
    probes, n, outputs = cotangents.shape
    carried: State = (cotangents.reshape(probes * n, outputs),)
    log_scale = torch.zeros(probes * n, dtype=torch.float64)
    logs: list[Tensor] = []
    for i, part in reversed(list(enumerate(x.split(span)))):
        inputs = part.repeat(1, probes, 1).requires_grad_()
        state = tuple(s.repeat(1, probes, 1).requires_grad_() for s in starts[i])
        with torch.enable_grad():
            output, last = _run(layer, inputs, state)
            targets = last if logs else (output[-1, :, :outputs],)
            at_input, *carried_back = torch.autograd.grad(targets, (inputs, *state), carried)
        rows = log_squares(at_input, (2,)) + 2 * log_scale
        logs.insert(0, rows.unflatten(1, (probes, n)).logsumexp(dim=2))
        carried, log_scale = _rescaled(tuple(carried_back), log_scale)
    return torch.cat(logs)


def _rescaled(carried: State, log_scale: Tensor) -> tuple[State, Tensor]:
    """Each row of the carried cotangent at unit peak, the factor moved into ``log_scale``."""
    peak = torch.stack([part.abs().amax(dim=(0, 2)) for part in carried]).amax(dim=0)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    return tuple(part / peak[:, None] for part in carried), log_scale + peak.log()


def log10_of(natural: float) -> float:
    """Natural to decimal logarithm."""
    return natural / math.log(10)
