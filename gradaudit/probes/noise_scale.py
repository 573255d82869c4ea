"""Gradient noise scale: the batch size at which a batch's noise is as long as its signal.

McCandlish, Kaplan, Amodei et al. 2018 (arXiv 1812.06162): ``B_simple = tr(Sigma) / |G|^2``, with G
the gradient of the expected loss and Sigma the covariance of one sample's gradient. Batches far
below it still average noise away nearly in proportion to their size; far above it nothing is
gained. It holds at the weights it was measured at, and grows in training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor, nn

from gradaudit.errors import ModelError
from gradaudit.linalg.intervals import jackknife_interval, student_quantile
from gradaudit.probes._hooks import backward, clear_gradients, take_loss
from gradaudit.probes._sketch import GradientSketches
from gradaudit.records import Estimate, NotMeasured
from gradaudit.settings import Settings
from gradaudit.subject.batches import map_tensors, sample_count
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective, Opened
from gradaudit.subject.sub_batch import rows
from gradaudit.telling import listed

WHAT = "gradient noise scale"
UNIT = "samples"
_ALIKE = 1e-10  # of a squared norm: float32 gradients that differ by rounding only
NEEDED = 4  # gradients of batches of one size: with three, an interval spans ten decades
_TOO_FEW = f"it takes {NEEDED} batches of one size"
PARTS = 8  # gradients wanted where too few batches are split for them


@dataclass
class BatchGradients:
    """The gradients of the batches so far, and how many samples each was taken on."""

    model: nn.Module
    sizes: list[int] = field(default_factory=list)
    sketches: GradientSketches = field(init=False)

    def __post_init__(self) -> None:
        self.sketches = GradientSketches(self.model)

    def add(self, size: int | None) -> None:
        """Note the gradients the model holds: finite ones, of a loss over ``size`` samples."""
        if size:
            self.sketches.add()
            self.sizes.append(size)

    @property
    def commonest(self) -> tuple[int, list[int]]:
        """The batch size that most batches have, and which batches those are."""
        size = max(set(self.sizes), key=lambda s: (self.sizes.count(s), s), default=0)
        return size, [i for i, each in enumerate(self.sizes) if each == size]


def measure_noise_scale(
    opened: Opened, settings: Settings, seen: BatchGradients | None
) -> tuple[Estimate | None, tuple[NotMeasured, ...]]:
    """``B_simple`` in samples from the gradients ``seen`` on the batches, or why there is none.

    ``seen`` is ``None`` where there were fewer than four batches.

    Only batches of the commonest size count, so that it does not matter whether the loss is a mean
    or a sum over samples. Fewer than four of them are split into about eight parts, at all efforts
    but quick; that costs one more pass over them. Dropout's noise is part of the noise; batch norm
    couples the samples, and then the number holds for this batch size only, which is said.
    Batches that are sorted (by class, say) and not drawn differ more, and raise it.

    Call it inside ``borrowed(model, training=True)``; the weights come back as they were.
    """
    model = opened.model
    assert model is not None
    if opened.batches and sample_count(opened.batches[0]) is None:
        return None, (_missing("which axis counts the samples cannot be told"),)
    if seen is None or len(seen.commonest[1]) < NEEDED:
        if settings.budget.gradient_batches < NEEDED:
            return None, (_missing(f"{_TOO_FEW}, and this effort looks at fewer"),)
        found = _split(opened, model)
        if isinstance(found, str):
            return None, (_missing(f"{_TOO_FEW}, there are fewer, and {found}"),)
        seen = found
    size, chosen = seen.commonest
    estimate = noise_scale(seen.sketches.gram()[chosen][:, chosen], size, seen.sketches.error)
    if isinstance(estimate, str):
        return None, (_missing(estimate),)
    return estimate, _caveats(model, size)


def noise_scale(gram: Tensor, size: int, error: float = 0.0) -> Estimate | str:
    """``B_simple`` with its 95% interval, or why it cannot be told.

    ``gram`` is float64 ``[K, K]``, the inner products of K gradients, each the mean (or sum) over
    ``size`` independent samples; ``error`` is the relative standard error of its metric. With
    ``U`` the mean over pairs of different batches, unbiased for ``|G|^2``, and ``N`` the mean of
    the squared norms, unbiased for ``|G|^2 + tr(Sigma) / size``, it is ``size (N - U) / U``. The
    interval is the jackknife's over batches, on the log. Its upper side is unknown where U is not
    clearly positive. ``tests/benchmarks/noise.py`` simulates its coverage.
    """
    count = gram.shape[0]
    norm, signal = _norm_and_signal(gram.diagonal().sum(), gram.sum(), count)
    if not norm > 0:
        return "the gradient is zero on every batch"
    if norm - signal <= _ALIKE * norm:
        return "every batch has the same gradient: they hold the same samples, or none matters"
    if signal <= 0:
        return (
            f"unresolved: the gradients of {count} batches of {size} samples agree no better than "
            "chance; more or larger batches would tell"
        )
    if _alike_without_one(gram):
        return "all batches but one have the same gradient: they hold the same samples"
    value = math.log(norm - signal) - math.log(signal)
    low, high = _bounds(gram, value)
    # signal and noise are measured in a metric that is off by this much
    factor, slack = float(size), 1 + 2 * error
    top = None if high is None else factor * math.exp(high) * slack
    bottom = factor * math.exp(low) / slack
    if not math.isfinite(bottom) or (top is not None and not math.isfinite(top)):
        return "unresolved: its interval leaves the range of numbers"
    return Estimate(factor * math.exp(value), bottom, top, UNIT)


def _norm_and_signal(squares: Tensor, total: Tensor, count: int) -> tuple[float, float]:
    """``(N, U)``: the mean squared norm, and the mean inner product of two different gradients."""
    pairs = count * (count - 1)
    return float(squares) / count, float(total - squares) / pairs


def _bounds(gram: Tensor, value: float) -> tuple[float, float | None]:
    """Interval of ``log((N - U) / U)``, natural log; ``None`` where the upper side is unknown."""
    norms, signals = _without_each(gram)
    norm, signal = _norm_and_signal(gram.diagonal().sum(), gram.sum(), gram.shape[0])
    if bool((signals > 0).all()):
        low, high = jackknife_interval(value, ((norms - signals) / signals).log())
        resolved = signal - _half_width(signals) > 0
        return low, high if resolved else None
    # Without one batch there is no signal left: only that the signal's share has an upper limit.
    share = min(signal / norm + _half_width(signals / norms), 1 - 1e-12)
    return min(value, math.log((1 - share) / share)), None


def _without_each(gram: Tensor) -> tuple[Tensor, Tensor]:
    """``(N, U)``, each ``[K]``, with each batch left out in turn."""
    count, squares = gram.shape[0], gram.diagonal()
    norms = (squares.sum() - squares) / (count - 1)
    totals = gram.sum() - 2 * gram.sum(1) + squares
    return norms, (totals - norms * (count - 1)) / ((count - 1) * (count - 2))


def _alike_without_one(gram: Tensor) -> bool:
    norms, signals = _without_each(gram)
    return bool((norms - signals <= _ALIKE * norms).any())


def _half_width(left_out: Tensor) -> float:
    """Half of a 95% Student interval by the jackknife."""
    count = left_out.shape[0]
    error = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    return student_quantile(count - 1) * error


def _split(opened: Opened, model: nn.Module) -> BatchGradients | str:
    """Gradients of equal parts of the few batches there are, or why they cannot be split."""
    objective, batches = opened.objective, opened.batches[: NEEDED - 1]
    assert objective is not None
    sizes = [rows(batch) for batch in batches]
    smallest = min((size or 0 for size in sizes), default=0)
    parts = min(math.ceil(PARTS / len(batches)), smallest // 2)
    if any(batch.whole for batch in batches):
        return "the model takes batches of one size only"
    if not smallest:
        return "which axis counts the samples cannot be told"
    if parts * len(batches) < NEEDED:
        return f"{smallest} samples are too few to be split"
    seen = BatchGradients(model)
    try:
        with borrowed(model):
            for batch in batches:
                for number in range(parts):
                    _pass(model, objective, _part(batch, number, parts, smallest // parts), seen)
    except ModelError as error:
        return f"a part of one could not be run: {error}"
    if len(seen.sizes) < NEEDED:
        return "the parts of them give no finite gradient"
    return seen


def _part(batch: Batch, number: int, parts: int, size: int) -> Batch:
    """Every ``parts``-th sample from ``number`` on, ``size`` of them: batches may be sorted."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[number : parts * size : parts].contiguous() if tensor.dim() else tensor

    return Batch(map_tensors(batch.inputs, cut), map_tensors(batch.target, cut))


def _pass(model: nn.Module, objective: Objective, batch: Batch, seen: BatchGradients) -> None:
    clear_gradients(model)
    _, loss = take_loss(model, objective, batch)
    if not loss.requires_grad:
        return
    backward(loss)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in map(_values, gradients)):
        seen.add(sample_count(batch))


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _missing(why: str) -> NotMeasured:
    return NotMeasured(WHAT, "the model", why)


def _caveats(model: nn.Module, size: int) -> tuple[NotMeasured, ...]:
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    if not norms:
        return ()
    why = f"batch norm couples the samples of a batch: the value holds for batches of {size}"
    return (NotMeasured(f"{WHAT} of independent samples", listed(norms, 1), why),)
