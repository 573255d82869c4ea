"""All probes over one opened subject, in order, inside one loan of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from gradaudit import plan
from gradaudit.errors import GradauditError, ModelError
from gradaudit.pacing import Progress
from gradaudit.probes.attention import measure_attention
from gradaudit.probes.attention_heads import measure_heads
from gradaudit.probes.bag import measure_bag
from gradaudit.probes.curvature import measure_curvature
from gradaudit.probes.data_scale import measure_data
from gradaudit.probes.expense import Expense, expense_of
from gradaudit.probes.folding import Fold, batch_norm_folds
from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.gradients import measure_real_loss
from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.probes.nonfinite import nonfinite_weights
from gradaudit.probes.outlook import measure_outlook
from gradaudit.probes.precision import measure_precision
from gradaudit.probes.rate_range import measure_rate_range
from gradaudit.probes.rehearsal import rehearse
from gradaudit.probes.singular_values import measure_singular_values
from gradaudit.probes.state import judge_state, judged_by_file, judged_by_loss
from gradaudit.probes.surroundings import activations, folds_behind, input_sizes
from gradaudit.probes.through_time import measure_through_time
from gradaudit.probes.weights import measure_weights
from gradaudit.records import Measurements, NotMeasured, ParameterRow, Rehearsal, StateRow
from gradaudit.settings import Settings
from gradaudit.subject import Opened, borrowed
from gradaudit.subject.formats.stored_weights import StoredWeights
from gradaudit.telling import first_line


@dataclass
class _Notebook:
    """Measurements as they come in, what did not, and what they are taken of."""

    opened: Opened
    settings: Settings
    progress: Progress
    measurements: Measurements
    gaps: list[NotMeasured] = field(default_factory=list)
    expense: Expense | None = None  # of a training step

    @property
    def cheap(self) -> bool:
        """Whether a training step costs next to nothing."""
        return self.expense is not None and self.expense.cheap

    def put(self, gaps: tuple[NotMeasured, ...] = (), **found: Any) -> None:
        """Add what one probe found."""
        self.measurements = replace(self.measurements, **found)
        self.gaps.extend(gaps)

    def leave_out(self, why: str, *whats: str) -> None:
        """Say why something about the model as a whole was not measured."""
        self.gaps.extend(NotMeasured(what, "the model", why) for what in whats)


@contextmanager
def told_in_one_line(doing: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into one clear line."""
    try:
        yield
    except GradauditError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model failed while {doing}",
            found=f"{type(error).__name__}: {first_line(error)}",
            next_step="check that the sample (--data or --input) is what forward() takes",
        ) from error


def measure(
    opened: Opened, settings: Settings, progress: Progress
) -> tuple[Measurements, tuple[NotMeasured, ...]]:
    """Run every probe the effort affords; the model comes back bit-identical.

    Raises :class:`gradaudit.errors.ModelError` where the user's forward or loss raises.
    """
    unknown = StateRow("fresh", "not judged")
    start = Measurements(opened.sample, opened.recipe, unknown)
    book = _Notebook(opened, settings, progress, start, list(opened.not_measured))
    if opened.model is None:
        book.progress.plan(plan.READING, {"spectral norms": 1.0})
        book.progress("spectral norms")
        bag = measure_bag(StoredWeights.of(opened.weights), settings, book.progress)
        state = judged_by_file(bag.state, opened.trained)
        book.put(bag.not_measured, nonfinite=bag.nonfinite, weights=bag.rows, state=state)
        return book.measurements, tuple(book.gaps)
    # The question is about training: a model saved in eval mode is measured in training mode,
    # one with only some layers frozen in eval mode is measured as it is.
    training = None if any(m.training for m in opened.model.modules()) else True
    with borrowed(opened.model, training=training) as model:
        _measure_model(book, model)
    return book.measurements, tuple(book.gaps)


def _measure_model(book: _Notebook, model: nn.Module) -> None:
    opened = book.opened
    if not opened.batches:
        book.put(nonfinite=nonfinite_weights(model))
        _weights(book, model, Growth.nothing())
        return
    with told_in_one_line("computing the loss"):
        book.expense = expense_of(opened)
    if book.expense is not None:
        real = opened.sample.source != "made up"
        book.progress.plan(
            plan.MEASURING,
            plan.measuring(
                book.expense, book.settings.budget, model, steps=opened.recipe.steps, real=real
            ),
        )
    _measure_start(book, model)
    book.progress("half-precision range")
    with told_in_one_line("forecasting half precision"):
        precision, gaps = measure_precision(opened, book.settings)
    book.put(gaps, precision=precision)
    if opened.sample.source == "made up":
        why = "the sample is made up: give yours with --data"
        recipe = ("sharpness", "learning-rate range", "rehearsal and forecast")
        book.leave_out(why, "scale of inputs and targets", *recipe)
        return
    with told_in_one_line("reading the sample"):
        book.put(data=measure_data(opened, book.settings))
    _train(book)


def _measure_start(book: _Notebook, model: nn.Module) -> None:
    """What the weights as they are show. The trace, which holds the activations, ends with it."""
    opened, settings = book.opened, book.settings
    folds = batch_norm_folds(model)  # before a forward pass in training mode moves the statistics
    book.progress("gradients of the loss")
    with told_in_one_line("computing the loss and its gradients"):
        real = measure_real_loss(opened, settings)
    book.put(
        real.not_measured,
        loss=real.loss,
        parameters=real.parameters,
        modules=real.modules,
        gradient_norm=real.gradient_norm,
        nonfinite=real.nonfinite,
        noise_scale=real.noise_scale,
    )
    growth = _jacobian(book)
    book.progress("gradient through time")
    with told_in_one_line("measuring the gradient through time"):
        recurrent, gaps = measure_through_time(opened, settings, growth.trace)
    book.put(gaps, recurrent=recurrent)
    book.progress("attention")
    with told_in_one_line("looking at the attention weights"):
        attention, gaps = measure_attention(opened, settings)
    book.put(gaps, attention=attention)
    _weights(book, model, growth, folds)


def _jacobian(book: _Notebook) -> Growth:
    """Gains both ways and singular values of the trunk's stages."""
    opened, settings = book.opened, book.settings
    book.progress("Jacobian growth")
    with told_in_one_line("probing the Jacobian"):
        growth = measure_growth(opened, settings)
        rows, forward_gaps = measure_forward_gain(opened, growth, settings)
        growth = replace(growth, stages=rows)
        rows, trunk, gaps = measure_singular_values(opened, growth, settings, cheap=book.cheap)
    book.put((*growth.not_measured, *forward_gaps, *gaps), stages=rows, trunk=trunk)
    return growth


def _weights(
    book: _Notebook, model: nn.Module, growth: Growth, folds: Mapping[str, Fold] | None = None
) -> None:
    book.progress("spectral norms")
    sizes: dict[str, tuple[int, ...]] = {}
    behind: dict[str, str] = {}
    behind_norms: dict[str, Fold] = {}
    heads, gaps = measure_heads(model)
    book.put(gaps, attention_heads=heads)
    if growth.trace is not None:
        sizes, behind = input_sizes(model, growth.trace), activations(model, growth.trace)
        behind_norms = folds_behind(model, growth.trace, folds or {})
    rows, gaps = measure_weights(
        model, sizes, behind, book.settings, behind_norms, progress=book.progress
    )
    state = judge_state(rows, model, book.settings)
    if book.measurements.sample.target in ("given", "in the model"):
        state = judged_by_loss(state, book.measurements.loss)
    state = judged_by_file(state, book.opened.trained)
    book.put(gaps, weights=rows, state=state)


def _train(book: _Notebook) -> None:
    """What the recipe meets: curvature, range test, rehearsal, update ratios."""
    opened, settings = book.opened, book.settings
    if book.measurements.nonfinite:
        why = "the loss or its gradient is not finite before the first step"
        book.leave_out(why, "sharpness", "learning-rate range", "rehearsal")
        return
    book.progress("curvature")
    with told_in_one_line("taking Hessian-vector products"):
        curvature, gaps = measure_curvature(opened, settings, cheap=book.cheap)
    book.put(gaps, curvature=curvature)
    book.progress("learning-rate range")
    with told_in_one_line("testing learning rates"):
        ranged = measure_rate_range(opened, settings)
    book.put(ranged.not_measured, rate_range=ranged.rate_range)
    book.progress("rehearsal")
    steepest = ranged.rate_range.steepest if ranged.rate_range else None
    with told_in_one_line("rehearsing training steps"):
        rehearsed = rehearse(opened, settings, lr=steepest if opened.recipe.lr is None else None)
    book.progress("training small nets on")
    with told_in_one_line("training beyond the rehearsal"):
        lr = _rehearsed_rate(opened, rehearsed.rehearsal)
        outlook, gaps = measure_outlook(opened, settings, book.expense, lr=lr)
    book.put(gaps, outlook=outlook)
    ratios = rehearsed.update_ratios
    parameters: tuple[ParameterRow, ...] = tuple(
        replace(row, update_ratio=ratios.get(row.parameter)) for row in book.measurements.parameters
    )
    book.put(rehearsed.not_measured, rehearsal=rehearsed.rehearsal, parameters=parameters)


def _rehearsed_rate(opened: Opened, rehearsal: Rehearsal | None) -> float | None:
    """The rate to go on with where the recipe gives none: the one the rehearsal ended with."""
    if opened.recipe.lr is not None or opened.make_optimizer is not None:
        return None
    return max(rehearsal.rates) if rehearsal is not None and rehearsal.rates else None
