"""Lyapunov exponents and gate openings of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` on the sample.

The exponents of a recurrent net along its own trajectory say per step what the gradient profile
shows over the sequence (Engelken et al. 2023, Phys. Rev. Research 5:043044; Vogt et al. 2022,
Front. Appl. Math. Stat. 8): the largest above zero, gradients explode; far below, they vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.linalg.lyapunov import (
    Exponents,
    aligned,
    burn_in,
    exponents,
    random_frame,
    stretches,
)
from gradaudit.linalg.series import mean_over_time
from gradaudit.probes.time_gates import Unrolled, unroll
from gradaudit.probes.time_packed import Sequences
from gradaudit.records import Estimate

WHAT = "Lyapunov exponents"
WIPED_OUT = (
    "every direction of the state is wiped out at some step: the exponents are minus infinity"
)
TOO_COSTLY = "left out at quick effort"

Told = tuple[tuple[Estimate, ...], str]  # exponents, or why there are none


@dataclass(frozen=True)
class Span:
    """How many exponents, and the steps that they and the gates are taken over."""

    count: int
    steps: int


# A step costs `count` products with the state's Jacobian of eight sequences and one QR.
SPANS = {"quick": Span(0, 128), "standard": Span(8, 256), "thorough": Span(8, 4096)}
SEQUENCES = 8  # of the batch: of fewer, skewed as they are, the intervals hold too seldom
_ALIGNING = 100  # steps over which exponents that differ by 0.03 part by e^3


@dataclass(frozen=True)
class Dynamics:
    """What unrolling one direction showed: exponents or why there are none, and the keep gate."""

    exponents: tuple[Estimate, ...]
    why: str  # why there are no exponents
    gate: Estimate | None


def layer_dynamics(
    layer: nn.RNNBase, given: Sequences, effort: str, generator: torch.Generator
) -> dict[str, Dynamics]:
    """By direction: the stack's largest exponents and the mean of its forget (update) gates.

    ``layer`` is float64, time first, without dropout. The state of an LSTM is (h, c). The exponents
    are those of all layers together, largest first; along the sequences cut to one length.
    """
    span = SPANS[effort]
    cut = given.common(span.steps)
    with torch.no_grad():
        unrolled = list(unroll(layer, cut.x, cut.state))
        if not layer.bidirectional:
            return {"forward": _dynamics(unrolled, len(cut.x), span, generator)}
        return {
            "forward": _dynamics(unrolled[::2], len(cut.x), span, generator),
            "backward": _dynamics(unrolled[1::2], len(cut.x), span, generator),
        }


def _dynamics(
    layers: list[Unrolled], steps: int, span: Span, generator: torch.Generator
) -> Dynamics:
    kept = [layer.keep for layer in layers if layer.keep is not None]
    gate = gate_mean(torch.stack([keep.mean(dim=2) for keep in kept]).mean(dim=0)) if kept else None
    if span.count == 0:
        return Dynamics((), TOO_COSTLY, gate)
    logs = []
    for layer in layers:
        frame = random_frame(layer.sequences, layer.size, span.count, generator)
        frame = aligned(layer.push, burn_in(steps), frame, _ALIGNING)
        logs.append(stretches(layer.push, steps, frame)[burn_in(steps) :])
    return Dynamics(*told(torch.cat(logs, dim=2), span.count, burn_in(steps)), gate)


def told(logs: Tensor, count: int, settling: int) -> Told:
    """Records of the largest ``count`` exponents, or why there are none.

    ``settling``: steps of the trajectory before the first of ``logs``.
    """
    if bool(torch.isnan(logs).any()) or bool((logs == torch.inf).any()):
        return (), "the state's Jacobian is not finite"
    found = exponents(logs, count, settling=settling)
    if not found.values:
        return (), WIPED_OUT
    return tuple(Estimate(*value, unit_of(found)) for value in found.values), ""


def unit_of(found: Exponents) -> str:
    """What the exponents are counted in, and how far they can be trusted."""
    over = f", over these {found.steps} steps" if found.finite_time else ""
    return f"natural log per step{over}"


def gate_mean(series: Tensor) -> Estimate:
    """Mean over steps and sequences of the units' mean gate, ``[steps, sequences]``."""
    value, low, high = mean_over_time(series)
    unit = "mean gate"
    if low is None or high is None:
        return Estimate(value, None, None, unit)
    return Estimate(value, max(0.0, low), min(1.0, high), unit)
