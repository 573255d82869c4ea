"""Every threshold that a rule or a probe holds a number against, with its unit and its source.

A user may set another value (:func:`with_limits`): its source then says who set it, and what it
stands in the place of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradaudit.errors import UsageError
from gradaudit.records import Limit
from gradaudit.telling import did_you_mean

_GROWTH = (
    "33 nets trained with SGD and Adam: those that always trained grew by 1e-2 to 8e4, those that "
    "never did by 5e-7 or less or by 1.6e6 or more (tests/benchmarks/growth_limits.py)"
)
_EXPERIMENT = "tests/benchmarks/growth_limits.py"

_TRAINED = "25 trained nets that packages carry (tests/benchmarks/trained_weights.py)"

_DECAY = (
    "under SGD and Adam every net kept over half of what it learns without decay up to 1.9, none "
    "from 6.2 on; under AdamW up to 0.5 and from 4.7 on (tests/benchmarks/weight_decay.py)"
)

_SCALES = (
    "of nets under Adam whose rehearsal falls 18 of 21 train up to here, all at the rate 1e-3, and "
    "at an offset of 5 or 10 only 10 of 14 (tests/benchmarks/input_scale.py)"
)

LIMITS: Mapping[str, Limit] = {
    "growth_max": Limit(1e5, "total gain (sum of squares)", _GROWTH),
    "growth_min": Limit(1e-6, "total gain (sum of squares)", _GROWTH),
    "growth_min_adaptive": Limit(
        1e-11, "total gain (sum of squares)", f"Adam trained nets down to 2e-10: {_EXPERIMENT}"
    ),
    "gsc_max": Limit(1e2, "GSC", f"Philipp et al., arXiv 1712.05577; {_EXPERIMENT}"),
    "gsc_min": Limit(1e-2, "GSC", f"Philipp et al., arXiv 1712.05577; {_EXPERIMENT}"),
    "time_growth_max": Limit(
        1e4,
        "total gain over time (sum of squares)",
        "100 in norm: one old step outweighs 100 recent ones",
    ),
    "time_growth_min": Limit(
        1e-8, "total gain over time (sum of squares)", "1e-4 in norm: lost in the sum over steps"
    ),
    "gate_reach_min": Limit(
        1e-4, "product of the mean gate over the steps", "time_growth_min as a norm: same reach"
    ),
    "spectral_excess_warn": Limit(
        10.0, "x the norm of iid weights of variance 1/fan_in", "Bai and Yin 1993 (the edge)"
    ),
    "spectral_excess_fail": Limit(
        100.0, "x the norm of iid weights of variance 1/fan_in", "Bai and Yin 1993 (the edge)"
    ),
    "spectral_excess_learned": Limit(
        3e3,
        "x the norm of iid weights of variance 1/fan_in",
        f"ten times the most, 290, in {_TRAINED}",
    ),
    "dead_rows_warn": Limit(
        0.5, "share of output units", f"nets that work have up to 45% in a weight: {_TRAINED}"
    ),
    "lone_outlier_warn": Limit(
        100.0, "x the sum of squares of all others", f"ten in norm; 5 at most in {_TRAINED}"
    ),
    "layer_imbalance_warn": Limit(
        10.0, "x the median size of its part", f"0.56 to 2.2 in {_TRAINED}"
    ),
    "dead_fraction_warn": Limit(0.5, "share of units", "SageMaker Debugger DeadRelu, 50%"),
    "dead_fraction_fail": Limit(0.9, "share of units", "AutoTrainer, 70% zero gradients, widened"),
    "saturated_fraction_warn": Limit(
        0.5, "share of outputs", "slope below 2% of its peak for tanh, 4% for sigmoid"
    ),
    "saturated_fraction_fail": Limit(
        0.9, "share of outputs", "slope below 2% of its peak for tanh, 4% for sigmoid"
    ),
    "attention_entropy_min": Limit(
        0.1,
        "share of ln(keys allowed)",
        "Zhai et al. 2023, arXiv 2303.06296; of transformers at 0.12 to 0.27 half the runs "
        "learned, at 0.08 and less none (tests/benchmarks/collapse.py)",
    ),
    "sample_spread_min": Limit(
        1e-3,
        "1 - mean cosine of two samples' outputs",
        "SGD trained nets down to 0.02 and none below 0.01 (tests/benchmarks/collapse.py)",
    ),
    "sample_spread_min_adaptive": Limit(
        1e-6,
        "1 - mean cosine of two samples' outputs",
        "Adam trained nets down to 2e-6, below it one run in ten (tests/benchmarks/collapse.py)",
    ),
    "effective_rank_min": Limit(
        1.5, "effective rank", "nets that trained had 2.4 or more (tests/benchmarks/collapse.py)"
    ),
    "input_scale_warn": Limit(10.0, "rms of the worst feature", "UMLAUT flags inputs outside 1"),
    "input_scale_fail": Limit(100.0, "rms of the worst feature", "field case: inputs x 1e4"),
    "input_scale_adaptive": Limit(3000.0, "rms of the worst feature", _SCALES),
    "input_offset_adaptive": Limit(3.0, "|mean| / std of the worst feature", _SCALES),
    "target_scale_warn": Limit(10.0, "rms", "UMLAUT flags data outside 1; same for targets"),
    "target_scale_fail": Limit(100.0, "rms", "field case: raw forecasting series"),
    "initial_loss_warn": Limit(1.5, "x the uniform guess's loss", "Karpathy 2019: loss @ init"),
    "initial_loss_fail": Limit(5.0, "x the uniform guess's loss", "field case: N(0,1) tied head"),
    "clip_rate_max": Limit(0.95, "share of steps clipped", "Pascanu et al. 2013, section 3.2"),
    "clip_cut": Limit(0.1, "threshold / median gradient norm", "a tenfold cut of the rate"),
    "update_ratio_max": Limit(
        0.1, "||step|| / ||weight||", "TheDeepChecker (log10 -1) and torchmortem; SageMaker: 10"
    ),
    "update_ratio_min": Limit(
        1e-5, "||step|| / ||weight||", "torchmortem; TheDeepChecker 1e-4, SageMaker 1e-8"
    ),
    "decay_pull_warn": Limit(5.0, "x the pull of the loss", _DECAY),
    "decay_pull_fail": Limit(10.0, "x the pull of the loss", _DECAY),
    "decay_pull_decoupled_warn": Limit(1.0, "decay x rms of the weights", _DECAY),
    "decay_pull_decoupled_fail": Limit(5.0, "decay x rms of the weights", _DECAY),
    "decay_pull_seen": Limit(
        0.3,
        "x the pull of the loss",
        "where training was seen to fail and a steady recipe does not: 18 recipes of "
        "tests/corpus/tune, 0.39 and more in those that decay stalls, 0.013 at most in others",
    ),
    "noise_batches": Limit(
        20.0,
        "noise scale / batch size",
        "McCandlish et al. 2018, arXiv 1812.06162: a batch is 1 / 21 signal there",
    ),
    "tail_ratio": Limit(10.0, "max / median gradient norm", "Zhang et al. 2020, arXiv 1905.11881"),
    "rate_floor_fall": Limit(
        0.05, "share of the loss all the recipe's steps take off", "linear projection of rehearsal"
    ),
    "rate_gap": Limit(
        0.1, "rate / rate of steepest fall", "Smith 2017, arXiv 1506.01186: a tenth still learns"
    ),
    "offset_warn": Limit(
        10.0, "|mean| / std of the worst feature", "LeCun et al. 1998, Efficient BackProp, 4.3"
    ),
    "disconnected_warn": Limit(0.0, "share of trainable parameters", "a tensor trained by nothing"),
    "disconnected_fail": Limit(
        0.5, "share of trainable parameters", "most of the model is cut off"
    ),
    "frozen_fail": Limit(
        0.3, "share of parameters", "nets that stalled had 0.5 and more frozen (tests/corpus/tune)"
    ),
    "initialization_off": Limit(
        1.1, "x the variance the activation needs", "1.1 per layer is a factor 1000 in 73 layers"
    ),
    "fp16_infinite": Limit(
        65520.0, "|x| from which fp16 rounds to infinity", "IEEE 754-2019, 4.3.1: largest 65504"
    ),
    "underflow_max": Limit(
        0.05,
        "share of nonzero gradient entries",
        "Micikevicius et al. 2018, arXiv 1710.03740, 3.1: 5% under 2^-24 called for a remedy",
    ),
    "lost_updates_max": Limit(
        0.5, "share of weights that are updated", "most weights stand still: arXiv 2010.06192"
    ),
    "half_eps_min": Limit(1e-4, "Adam's eps", "field case: pure fp16 trains with it, 1e-8 is zero"),
}

# Where one of these was past its second, no number could be within both.
_IN_ORDER = (
    ("growth_min_adaptive", "growth_min"),
    ("growth_min", "growth_max"),
    ("gsc_min", "gsc_max"),
    ("time_growth_min", "time_growth_max"),
    ("spectral_excess_warn", "spectral_excess_fail"),
    ("dead_fraction_warn", "dead_fraction_fail"),
    ("saturated_fraction_warn", "saturated_fraction_fail"),
    ("sample_spread_min_adaptive", "sample_spread_min"),
    ("input_scale_warn", "input_scale_fail"),
    ("target_scale_warn", "target_scale_fail"),
    ("initial_loss_warn", "initial_loss_fail"),
    ("update_ratio_min", "update_ratio_max"),
    ("decay_pull_warn", "decay_pull_fail"),
    ("decay_pull_decoupled_warn", "decay_pull_decoupled_fail"),
    ("disconnected_warn", "disconnected_fail"),
)
_ABOVE_ONE = ("layer_imbalance_warn", "initialization_off")  # factors, held against both ways


def with_limits(
    given: Mapping[str, float | Limit],
    source: str = "set by the user",
    over: Mapping[str, Limit] = LIMITS,
) -> dict[str, Limit]:
    """``over`` with the given values in it; a :class:`Limit` is taken as it is.

    A limit that is given as a number keeps its unit, and its source becomes ``source, instead of
    1e5 from ...``. Names may be written with ``-`` for ``_``. Raises ``UsageError`` for an unknown
    name (with the nearest), for a value that the limit cannot have (not finite, not positive, a
    share above 1, a factor below 1), and for a lower limit that is above its upper one.
    """
    limits = dict(over)
    for written, value in given.items():
        name = limit_name(written)
        limits[name] = (
            value if isinstance(value, Limit) else changed_limit(name, value, source, limits[name])
        )
    check_order(limits)
    return limits


def changed_limit(name: str, value: object, source: str, before: Limit | None = None) -> Limit:
    """The limit called ``name`` with another value; raises ``UsageError`` for what it cannot be."""
    before = before or LIMITS[name]
    number = _checked(name, value)
    stated = f"{source}, instead of {told_value(before.value)} from {before.source}"
    return Limit(number, before.unit, stated)


def told_value(value: float) -> str:
    """A limit's value as people write it: ``0.5``, ``20``, ``1e5``, ``3e-7``."""
    short = f"{value:g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    scientific = f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return scientific if len(scientific) < len(short) and float(scientific) == value else short


def limit_name(written: str, known: Mapping[str, Limit] | tuple[str, ...] = LIMITS) -> str:
    """The limit of that name among ``known``; raises ``UsageError`` naming the nearest."""
    name = written.replace("-", "_")
    if name in known:
        return name
    raise UsageError(
        f"no limit is called {written!r}",
        next_step=did_you_mean(name.replace("_", "-"), [each.replace("_", "-") for each in known]),
    )


def _checked(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        expected = "a finite number"
    elif value < 0 or (value == 0 and LIMITS[name].value != 0):
        expected = "a number above 0"
    elif LIMITS[name].unit.startswith("share") and value > 1:
        expected = "a share, 1 at most"
    elif name in _ABOVE_ONE and value < 1:
        expected = "a factor, 1 at least"
    else:
        return float(value)
    raise UsageError(
        f"the limit {name.replace('_', '-')} cannot be that", expected=expected, found=repr(value)
    )


def check_order(limits: Mapping[str, Limit]) -> None:
    """Raise ``UsageError`` where a lower limit is above its upper one."""
    for lower, upper in _IN_ORDER:
        low, high = limits[lower].value, limits[upper].value
        if low > high:
            raise UsageError(
                f"the limits {lower.replace('_', '-')} and {upper.replace('_', '-')} exclude each "
                "other",
                expected="the first to be the smaller one",
                found=f"{told_value(low)} and {told_value(high)}",
            )
