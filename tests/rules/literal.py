"""Literal measurements: a sound model on real data, changed where a test says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradaudit.records import (
    AttentionRow,
    DataRow,
    Estimate,
    Finding,
    LossRow,
    Measurements,
    ModuleRow,
    ParameterRow,
    Recipe,
    RecurrentRow,
    Rehearsal,
    SampleRow,
    StageRow,
    StateRow,
    TrunkRow,
    WeightRow,
)
from gradaudit.rules import rule
from gradaudit.settings import Settings

SETTINGS = Settings()
GIVEN = SampleRow("given", "given", 6, 32, "batches.pt")
MADE_UP = SampleRow("made up", "made up", 1, 32, "random")
NONE = SampleRow("none", "none", 0, None, "no sample")
TRAINED = StateRow("trained", "said so")
FALLS = Rehearsal(
    20, (2.3, 1.4), (0.01,) * 20, None, None, "falls", "sgd", False, beats_constant=True
)
FALLS_ABOVE_CONSTANT = replace(FALLS, beats_constant=False)
FLAT = replace(FALLS, losses=(2.3, 2.3), outcome="flat", beats_constant=False)
DIVERGES = replace(FALLS, losses=(2.3, 9.0), outcome="diverges", beats_constant=None)


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    """An interval, exact unless told otherwise."""
    return Estimate(value, value if low is None else low, value if high is None else high, "test")


def measurements(**changes: Any) -> Measurements:
    """A subject on real data with an SGD recipe, on which nothing was found; then ``changes``."""
    sound = Measurements(
        sample=GIVEN, recipe=Recipe(optimizer="sgd", lr=0.01), state=StateRow("fresh", "He")
    )
    return replace(sound, **changes)


def check(code: str, seen: Measurements, settings: Settings = SETTINGS) -> list[Finding]:
    """What that one rule finds."""
    return list(rule(code).check(seen, settings))


def only(code: str, seen: Measurements, settings: Settings = SETTINGS) -> Finding:
    """The one finding of that rule."""
    found = check(code, seen, settings)
    assert len(found) == 1, found
    return found[0]


def stage(index: int, gain: float | None = 1.0, **changes: Any) -> StageRow:
    """Stage ``layers.<index>`` of exact backward gain; the first is the inlet."""
    name = f"layers.{index}"
    row = StageRow(
        index=index,
        name=name,
        start="",
        to=name,
        modules=(name,),
        parameters=(f"{name}.weight", f"{name}.bias"),
        role="inlet" if index == 0 else "interior",
        residual=False,
        backward_gain=None if gain is None else estimate(gain),
        forward_gain=None,
        gsc=None,
        jacobian_norm_log10=None,
        output_rms=1.0,
    )
    return replace(row, **changes)


def trunk(total_log10: Estimate | None, gsc: Estimate | None = None) -> TrunkRow:
    """A trunk that was found."""
    return TrunkRow(True, None, total_log10, None, gsc if gsc is not None else estimate(1.0), 20)


def chain(gain: float, count: int = 20) -> dict[str, Any]:
    """Stages of one gain each behind an inlet, and the trunk that goes with them."""
    import math

    stages = (stage(0), *(stage(i, gain) for i in range(1, count + 1)))
    return {"stages": stages, "trunk": trunk(estimate(count * math.log10(gain)))}


def weight(index: int, variance: float, **changes: Any) -> WeightRow:
    """A square dense weight of width 64 with ``variance * fan_in`` as given, before a tanh."""
    name = f"layers.{index}"
    row = WeightRow(
        parameter=f"{name}.weight",
        module=name,
        kind="dense",
        shape=(64, 64),
        spectral_norm=estimate(2.0),
        stable_rank=16.0,
        input_size=None,
        reshaped_norm=None,
        spectral_radius=None,
        rms=(variance / 64) ** 0.5,
        fan_in=64,
        random_edge=2.0,
        critical_edge=2.0,
        finite=True,
        identical_rows=False,
        initialization="unknown",
        type="Linear",
        activation="Tanh",
    )
    return replace(row, **changes)


def parameter(name: str, **changes: Any) -> ParameterRow:
    """A trainable parameter that the loss reaches."""
    return replace(ParameterRow(name, True, True, 1.0, None, None), **changes)


def recurrent(growth_log10: float | None, **changes: Any) -> RecurrentRow:
    """An ``nn.RNN`` over 41 steps."""
    growth = None if growth_log10 is None else estimate(growth_log10)
    row = RecurrentRow("rnn", "RNN", 41, ((0, 1.0), (40, 1.0)), growth, None, None)
    return replace(row, **changes)


def module(name: str, kind: str, **changes: Any) -> ModuleRow:
    """One call of a module of 128 units."""
    return replace(ModuleRow(name, 0, kind, 1.0, 1.0, units=128), **changes)


def data(role: str = "input", mean: float = 0.0, std: float = 1.0, **changes: Any) -> DataRow:
    """A floating tensor of the sample."""
    rms = (mean**2 + std**2) ** 0.5
    row = DataRow(role, role, "float32", (32, 8), mean, std, rms, mean - std, mean + std)
    return replace(row, **changes)


def loss(kind: str = "cross_entropy", initial: float = 2.3, **changes: Any) -> LossRow:
    """Ten classes."""
    return replace(LossRow(kind, "", estimate(initial), 2.3, 2.302585, 10), **changes)


def attention(share: float | None, **changes: Any) -> AttentionRow:
    """Four heads over 64 keys whose weights have this entropy."""
    entropy = None if share is None else estimate(share)
    return replace(AttentionRow("mix", 0, 4, 64, 64, entropy, 0, share), **changes)
