"""Everything the probes saw, as frozen rows; rules read these and nothing else.

Gains are ratios of plain sums of squares, ``||J^T u||^2`` at a stage's input over ``||u||^2`` at
its output; norms, rms values and GSC are not squared. ``None`` means "not measured", and then the
reason stands in the report's ``not_measured``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gradaudit.records.attention import AttentionRow, HeadRow
from gradaudit.records.curvature import Curvature
from gradaudit.records.estimate import Estimate
from gradaudit.records.outlook import Outlook
from gradaudit.records.precision import Precision
from gradaudit.records.recipe import Recipe


@dataclass(frozen=True)
class WeightPart:
    """A block of rows of one weight that is a linear map of its own."""

    name: str  # "input" | "forget" | "cell" | "output" | "reset" | "update" | "new" | "query" ...
    spectral_norm: Estimate | None
    stable_rank: float | None
    spectral_radius: float | None  # of square recurrent blocks


@dataclass(frozen=True)
class WeightRow:
    """One weight (a parameter with two or more dimensions) as the linear map it is used as."""

    parameter: str
    module: str
    kind: str  # "dense" | "embedding" | "convolution" | "recurrent" | "other"
    shape: tuple[int, ...]
    spectral_norm: Estimate | None  # of the operator, on input_size for a convolution
    stable_rank: float | None  # ||W||_F^2 / sigma_1^2 of the operator
    input_size: tuple[int, ...] | None  # spatial size a convolution was measured on
    reshaped_norm: float | None  # sigma_1 of W.flatten(1): what torch's spectral_norm uses
    spectral_radius: float | None  # of square recurrent weights
    rms: float  # root mean square of the finite entries
    fan_in: int
    random_edge: float | None  # sigma_1 expected of iid entries of this rms and shape
    critical_edge: float | None  # sigma_1 expected of iid entries of variance 1 / fan_in
    finite: bool
    identical_rows: bool  # every output unit has the same weights: symmetry is not broken
    initialization: str  # the known initialization it looks like, or "unknown"
    type: str = ""  # the module's class name
    activation: str = ""  # class or function name of the nonlinearity that follows, if seen
    parts: tuple[WeightPart, ...] = ()  # gates of a recurrent weight; query, key, value
    folded_norm: Estimate | None = None  # with the batch norm behind it folded in, as at eval
    folded_with: str = ""  # that batch norm's module
    # Of a weight that lies elsewhere than its module, as those of an ONNX graph do:
    elsewhere: bool = False
    bias: str = ""  # the parameter that is the module's bias
    inputs_first: bool = False  # stored (inputs, outputs)
    nonfinite_entries: int = 0  # NaN or infinite
    outputs: int = 0  # output units
    # Those whose weights' rms is below float32's rounding (2^-24) of the whole weight's:
    dead_outputs: int | None = None
    peak: float | None = None  # largest |w| over the rms
    random_peak: float | None = None  # what n iid normal entries give: sqrt(2 ln 2n)
    # The rms over the median rms of the weights of the same part and shape in other layers:
    peer_ratio: float | None = None
    peers: int = 0  # how many those are, itself counted


@dataclass(frozen=True)
class StageRow:
    """One stage of the trunk, between two kept tensors."""

    index: int
    name: str
    start: str  # "from" in the JSON
    to: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    role: str  # "inlet" | "interior" | "head"
    residual: bool  # parallel paths inside, joined at the stage's end
    backward_gain: Estimate | None
    forward_gain: Estimate | None
    gsc: Estimate | None
    jacobian_norm_log10: Estimate | None
    output_rms: float | None
    top_singular_values: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class TrunkRow:
    """The chain of stages as a whole."""

    found: bool
    growth_per_stage: Estimate | None  # exp(mean log gain) over interior stages
    total_growth_log10: Estimate | None  # log10 of the product of gains behind the inlet
    worst_stage: int | None
    gsc: Estimate | None
    stages: int = 0
    interior_stages: int = 0
    interior_growth_log10: Estimate | None = None  # growth_per_stage over all interior stages
    why: str = ""  # why there is no trunk, where there is none
    top_singular_values: tuple[Estimate, ...] = ()  # of the end-to-end Jacobian, not squared


@dataclass(frozen=True)
class ModuleRow:
    """One call of one module during the real loss's forward and backward pass."""

    module: str
    call: int
    type: str
    output_rms: float | None
    gradient_rms: float | None  # of d loss / d output
    dead_fraction: float | None = None  # units that are zero (to ReLU-like) on the whole batch
    saturated_fraction: float | None = None  # entries past the knee of tanh or sigmoid
    units: int | None = None
    effective_rank: float | None = None  # exp(entropy) of the samples' covariance spectrum
    rank_limit: int | None = None  # the largest effective rank these samples and units allow
    sample_correlation: float | None = None  # mean cosine between two samples' outputs


@dataclass(frozen=True)
class ParameterRow:
    """One parameter under the real loss."""

    parameter: str
    trainable: bool
    connected: bool  # whether the loss reaches it
    weight_norm: float
    gradient_norm: Estimate | None
    update_ratio: Estimate | None  # ||step|| / ||weight|| under the recipe
    size: int = 1  # number of entries
    module: str = ""  # that computes with it


@dataclass(frozen=True)
class RecurrentRow:
    """How the gradient at the last time step reaches back through time."""

    module: str
    type: str
    steps: int
    profile: tuple[tuple[int, float], ...]  # (t, rms of d last output / d input at t)
    growth_log10: Estimate | None  # log10 of squared rms at the first over that at the last step
    growth_per_step: Estimate | None  # the same per step, as a gain (squared)
    horizon: int | None  # lag at which the profile falls below 1% of its value at the last step
    spectral_radius: float | None = None
    loss_growth_log10: float | None = None  # the same of the real loss: what reads early steps
    lyapunov: tuple[Estimate, ...] = ()  # per step, natural log, largest first
    growth_by_length: tuple[tuple[int, Estimate], ...] = ()  # (T/4, T/2, T): growth_log10 there
    forget_gate: Estimate | None = None  # LSTM: mean forget gate on the sample; GRU: update gate
    packed: bool = False  # sequences of different lengths
    direction: str = "forward"  # "backward": the half of a bidirectional layer that runs back


@dataclass(frozen=True)
class GradientNorm:
    """The global gradient norm over batches (L2, all trainable parameters)."""

    batches: int
    median: float
    p90: float
    p95: float
    max: float
    tail: str  # "light" | "heavy" | "unresolved"
    tail_why: str = ""  # what the evidence is, within what this number of batches allows
    tail_index: Estimate | None = None  # Hill's estimate of alpha, where there are batches for it
    clip_threshold: float | None = None  # the measured threshold
    clip_basis: str = ""  # what it was taken from
    clip_rate: Estimate | None = None  # share of steps it is expected to clip
    norms: tuple[float, ...] = ()  # one per batch, in the batches' order


@dataclass(frozen=True)
class NonFinite:
    """The first operation that made a NaN or infinity out of finite numbers."""

    phase: str  # "weights" | "constant" | "forward" | "loss" | "backward"
    op: str
    module: str
    call: int
    step: int | None = None  # rehearsal step; None: at the start
    parameter: str = ""  # or buffer
    file: str = ""  # of the user's code that called the operation, where it can be found
    line: int | None = None


@dataclass(frozen=True)
class Rehearsal:
    """A copy of the model taking the recipe's own steps on the sample."""

    steps: int
    losses: tuple[float, ...]  # finite ones only: cut before the first non-finite
    rates: tuple[float, ...]
    clip_rate: Estimate | None  # share of steps that were clipped
    first_nonfinite: NonFinite | None
    outcome: str  # "falls" | "flat" | "diverges"
    optimizer: str
    prescribed: bool  # the optimizer or rate is ours: none was given
    gradient_norms: tuple[float, ...] = ()
    beats_constant: bool | None = None  # loss fell clearly below the best constant prediction
    rescued_by_rate: float | None = None  # a lower rate under which it fell, where it diverged
    projected_fall: float | None = None  # share of the loss the recipe's steps take at this slope


@dataclass(frozen=True)
class RateRange:
    """Learning-rate range test (Smith 2017), from the start weights."""

    optimizer: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    ceiling: float | None  # the highest rate before the loss left its course
    steepest: float | None


@dataclass(frozen=True)
class LossRow:
    """The loss that was used, and what it starts from."""

    kind: str
    why: str
    initial: Estimate | None
    constant: float | None  # loss of the best constant prediction on the sample's targets
    chance: float | None  # loss of the uniform guess (ln C), for classification
    classes: int | None = None


@dataclass(frozen=True)
class DataRow:
    """Scale of one tensor of the sample."""

    tensor: str  # "input", "input 1", "input 'mask'", "target"
    role: str  # "input" | "target"
    dtype: str
    shape: tuple[int, ...]
    mean: float
    std: float
    rms: float
    minimum: float
    maximum: float
    worst_feature: int | None = None  # last-dimension index furthest from unit scale
    worst_feature_mean: float | None = None
    worst_feature_std: float | None = None
    normalized_by_model: bool = False  # by its first layer, or by a norm directly behind that
    feature_means: tuple[float, ...] = ()  # per last-dimension index, where it counts features
    feature_stds: tuple[float, ...] = ()


@dataclass(frozen=True)
class SampleRow:
    """Where the sample came from."""

    source: str  # "given" | "carried" | "made up" | "none"
    target: str  # "given" | "made up" | "in the model" | "none"
    batches: int
    batch_size: int | None
    description: str


@dataclass(frozen=True)
class StateRow:
    """Whether the weights are a start or learned."""

    state: Literal["fresh", "trained"]
    how: str


@dataclass(frozen=True)
class Measurements:
    """All of it. Empty tuples and ``None`` where the audit did not get that far."""

    sample: SampleRow
    recipe: Recipe
    state: StateRow
    weights: tuple[WeightRow, ...] = ()
    stages: tuple[StageRow, ...] = ()
    trunk: TrunkRow = field(default_factory=lambda: TrunkRow(False, None, None, None, None))
    modules: tuple[ModuleRow, ...] = ()
    parameters: tuple[ParameterRow, ...] = ()
    recurrent: tuple[RecurrentRow, ...] = ()
    curvature: Curvature | None = None
    gradient_norm: GradientNorm | None = None
    noise_scale: Estimate | None = None  # samples
    attention: tuple[AttentionRow, ...] = ()
    attention_heads: tuple[HeadRow, ...] = ()
    precision: Precision | None = None
    rehearsal: Rehearsal | None = None
    rate_range: RateRange | None = None
    outlook: Outlook | None = None
    loss: LossRow | None = None
    data: tuple[DataRow, ...] = ()
    nonfinite: tuple[NonFinite, ...] = ()
