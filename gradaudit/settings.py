"""Every option and threshold, with its unit and where it comes from.

``Settings`` is what the command line, ``[tool.gradaudit]`` and :func:`gradaudit.audit` all fill in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gradaudit.records import Limit, Recipe
from gradaudit.tolerances import TOLERANCES

EFFORTS = ("quick", "standard", "thorough")
State = Literal["auto", "fresh", "trained"]


@dataclass(frozen=True)
class Budget:
    """What one effort level spends, in the units of the cost table (training steps)."""

    probes: int  # random cotangents for the Jacobian (0.35 step each on a transformer)
    tangents: int  # forward-mode probes (1.4 steps each)
    gradient_batches: int  # batches the real loss's gradient is taken on
    rehearsal_steps: int
    range_steps: int  # learning-rate range test
    lanczos_steps: int  # per weight, apart from the step budget
    curvature_products: int  # Hessian-vector products, where each is dear (3.9 steps a batch)
    singular_steps: int  # Lanczos steps per stage Jacobian; 0: only where they cost next to nothing
    singular_cost: int  # training steps to spend on them, the worst stage first
    allowance: float  # seconds of one core for training small nets beyond the rehearsal
    search_steps: int  # training steps to look for a cure with, where one is needed


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(8, 0, 1, 4, 0, 40, 0, 0, 0, 0.0, 0),
    "standard": Budget(16, 2, 6, 16, 12, 60, 8, 8, 2, 1.5, 150),
    "thorough": Budget(64, 8, 60, 80, 32, 120, 20, 12, 50, 10.0, 300),
}

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


@dataclass(frozen=True)
class Settings:
    """How an audit is run. Field names are the long option names with ``_`` for ``-``."""

    data: str | None = None
    batch_size: int | None = None
    target: str | None = None
    loss: str = "auto"
    build: str | None = None
    input: str | None = None
    state: State = "auto"
    reinit: bool = False
    trust: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    effort: Literal["quick", "standard", "thorough"] = "standard"
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = field(default_factory=lambda: dict(LIMITS))
    tolerances: Mapping[str, Limit] = field(default_factory=lambda: dict(TOLERANCES))
    spent: Budget | None = None  # instead of the effort's budget, for trials inside a search

    @property
    def budget(self) -> Budget:
        """What this effort level may spend."""
        return self.spent or BUDGETS[self.effort]

    def limit(self, name: str) -> Limit:
        """The threshold called ``name``; raises ``KeyError`` for a name nobody defined."""
        return self.limits[name]

    def to_record(self) -> dict[str, object]:
        """What the audit goes by, for the report: the settings in force but for the recipe."""
        left_out = ("recipe", "spent", "tolerances")
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in left_out
        }
