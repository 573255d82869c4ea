"""What variance each activation needs, and which weights are off."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gradaudit.records import Measurements, StageRow, WeightRow
from gradaudit.rules._outlook import ill, recipe_to_blame

# variance x fan_in that keeps gradients at their size: 1 / E[phi'^2] (ReLU-like), 1 / E[phi^2]
# (GELU, SiLU, ELU: the customary gain), 1 for linear and tanh (chi = 1 at the fixed point q = 0;
# PyTorch's gain 5/3 for tanh has chi = 1.21 and grows). Sigmoid is tanh at half slope and quarter
# scale, so it needs 16, with its mean of 1/2 taken out of the next bias.
NEEDED: Mapping[str, float] = {
    "linear": 1.0,
    "identity": 1.0,
    "tanh": 1.0,
    "softsign": 1.0,
    "selu": 1.0,
    "relu": 2.0,
    "relu6": 2.0,
    "leakyrelu": 2.0 / (1.0 + 0.01**2),  # slope 0.01, PyTorch's default
    "elu": 1.0 / 0.644945,
    "gelu": 1.0 / 0.425221,
    "silu": 1.0 / 0.355776,
    "swish": 1.0 / 0.355776,
    "mish": 1.0 / 0.452342,
    "hardswish": 1.0 / 0.331567,
    "sigmoid": 16.0,
}

# Where the nonlinearity was not seen, linear (1) and He (2) are both possible.
_UNSEEN_TOLERANCE = 2.5
# A net too shallow to grow past its limits can still saturate, or start blind: from these ratios on
# that explains a failure that was seen. Torch's own start has a sixth of what a ReLU needs.
_FAR_ABOVE, _FAR_BELOW = 3.0, 5.0
_OF_LAYERS = ("dense", "convolution")


@dataclass(frozen=True)
class Offender:
    """A weight whose variance is not what the activation behind it needs."""

    row: WeightRow
    have: float  # variance x fan_in
    need: float

    @property
    def ratio(self) -> float:
        """How many times the needed variance it has."""
        return self.have / self.need


def activation_key(name: str) -> str:
    """``torch.nn.LeakyReLU``, ``leaky_relu`` and ``LeakyReluBackward0`` are one."""
    key = name.rpartition(".")[2].lower().replace("_", "").removesuffix("backward0")
    return key or "linear"


def needed_variance(activation: str) -> float | None:
    """``variance x fan_in`` for that activation; ``None`` where no number is known."""
    return NEEDED.get(activation_key(activation))


def stage_of(parameter: str, stages: tuple[StageRow, ...]) -> StageRow | None:
    """The stage a parameter lies in."""
    return next((stage for stage in stages if parameter in stage.parameters), None)


def normed_stages(measurements: Measurements) -> set[int]:
    """Indices of the stages that hold a normalisation layer, which undoes a weight's scale."""
    norms = {row.module for row in measurements.modules if "norm" in row.type.lower()}
    return {stage.index for stage in measurements.stages if norms & set(stage.modules)}


def trainable(row: WeightRow, measurements: Measurements) -> bool:
    """Whether training may change it; a fixed kernel is as its author wants it."""
    return all(p.trainable for p in measurements.parameters if p.parameter == row.parameter)


def offenders(measurements: Measurements, tolerance: float, *, above: bool) -> tuple[Offender, ...]:
    """Weights of plain or residual stages with too much (``above``) or too little variance."""
    normed = normed_stages(measurements)
    found = []
    for row in measurements.weights:
        stage = stage_of(row.parameter, measurements.stages)
        if row.kind not in _OF_LAYERS or not row.rms > 0 or not trainable(row, measurements):
            continue
        if stage is not None and stage.index in normed:
            continue
        need = needed_variance(row.activation)
        if need is None:
            continue
        offender = Offender(row, _variance(row), need)
        if _is_off(offender, tolerance, above=above):
            found.append(offender)
    return tuple(sorted(found, key=lambda o: o.ratio, reverse=above))


def blamed_offenders(measurements: Measurements, *, above: bool) -> tuple[Offender, ...]:
    """Weights far off where training was seen to fail from this start under a steady recipe too."""
    if not ill(measurements) or recipe_to_blame(measurements):
        return ()
    return offenders(measurements, _FAR_ABOVE if above else _FAR_BELOW, above=above)


def _variance(row: WeightRow) -> float:
    """Times the fan-in, within the range of floats."""
    return min(max(row.rms * row.rms * row.fan_in, sys.float_info.min), sys.float_info.max)


def _is_off(offender: Offender, tolerance: float, *, above: bool) -> bool:
    # The variance of n drawn entries scatters by sqrt(2 / n) around the one they were drawn from.
    scatter = 1.0 + 4.0 * math.sqrt(2.0 / math.prod(offender.row.shape))
    allowed = (tolerance if offender.row.activation else _UNSEEN_TOLERANCE) * scatter
    return offender.ratio > allowed if above else offender.ratio < 1.0 / allowed


def recurrent_offenders(
    measurements: Measurements, modules: tuple[str, ...], tolerance: float, *, above: bool
) -> tuple[Offender, ...]:
    """State-to-state weights of plain (not gated) recurrent modules that are off.

    Gated cells have no closed form: their gates, not the variance, decide what is carried on.
    """
    found = []
    for row in measurements.weights:
        plain = row.kind == "recurrent" and row.type in ("RNN", "RNNCell")
        if not plain or row.module not in modules or "weight_hh" not in row.parameter:
            continue
        known = row if row.activation else replace(row, activation="tanh")
        need = needed_variance(known.activation)
        if need is None:
            continue
        offender = Offender(known, _variance(row), need)
        if _is_off(offender, tolerance, above=above):
            found.append(offender)
    return tuple(found)


def symmetric(measurements: Measurements) -> tuple[WeightRow, ...]:
    """Hidden weights whose units are all alike and not zero: they stay alike for ever."""
    return tuple(row for row in _hidden(measurements) if row.identical_rows and row.rms > 0)


def all_zero(measurements: Measurements) -> tuple[WeightRow, ...]:
    """Hidden weights that are all zero, outside residual stages (where zero is a good start)."""
    hidden = [row for row in _hidden(measurements) if row.rms == 0]
    zero = [row for row in hidden if not _residual(row, measurements)]
    # A zero head is a good start, but not in front of zero layers.
    heads = [r for r in measurements.weights if r.kind in _OF_LAYERS and r.rms == 0]
    return tuple(zero + [r for r in heads if zero and r not in hidden])


def _residual(row: WeightRow, measurements: Measurements) -> bool:
    stage = stage_of(row.parameter, measurements.stages)
    return stage is not None and stage.residual


def _hidden(measurements: Measurements) -> list[WeightRow]:
    """Trainable layer weights of several units, without the last: a zero head is a good start."""
    layers = [row for row in measurements.weights if row.kind in _OF_LAYERS]
    heads = {
        name for stage in measurements.stages if stage.role == "head" for name in stage.parameters
    }
    if not heads and layers:
        heads = {layers[-1].parameter}
    return [
        row
        for row in layers
        if row.parameter not in heads and row.shape[0] > 1 and trainable(row, measurements)
    ]
