"""All probes over one opened subject, in order, inside one loan of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from gradaudit.errors import GradauditError, ModelError
from gradaudit.probes.data_scale import measure_data
from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.gradients import measure_real_loss
from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.probes.nonfinite import nonfinite_weights
from gradaudit.probes.rate_range import measure_rate_range
from gradaudit.probes.rehearsal import rehearse
from gradaudit.probes.state import judge_state, judged_by_loss
from gradaudit.probes.surroundings import activations, input_sizes
from gradaudit.probes.through_time import measure_through_time
from gradaudit.probes.weights import measure_weights
from gradaudit.records import Measurements, NotMeasured, ParameterRow, StateRow
from gradaudit.settings import Settings
from gradaudit.subject import Opened, borrowed

Progress = Callable[[str], None]  # called with what is being measured now


_LATER = tuple(
    NotMeasured(what, "the model", "this version has no probe for it")
    for what in (
        "sharpness",
        "gradient noise scale",
        "half-precision range",
        "singular values of stages",
        "Lyapunov exponents",
    )
)


@dataclass
class _Notebook:
    """Measurements as they come in, and what did not."""

    measurements: Measurements
    gaps: list[NotMeasured] = field(default_factory=list)

    def put(self, gaps: tuple[NotMeasured, ...] = (), **found: Any) -> None:
        """Add what one probe found."""
        self.measurements = replace(self.measurements, **found)
        self.gaps.extend(gaps)


@contextmanager
def told_in_one_line(doing: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into one clear line."""
    try:
        yield
    except GradauditError:
        raise
    except Exception as error:
        message = str(error).strip().splitlines()
        raise ModelError(
            f"the model failed while {doing}",
            found=f"{type(error).__name__}: {message[0] if message else 'no message'}",
            next_step="check that the sample (--data or --input) is what forward() takes",
        ) from error


def measure(
    opened: Opened, settings: Settings, progress: Progress
) -> tuple[Measurements, tuple[NotMeasured, ...]]:
    """Run every probe the effort affords; the model comes back bit-identical.

    Raises :class:`gradaudit.errors.ModelError` where the user's forward or loss raises.
    """
    unknown = StateRow("fresh", "not judged")
    book = _Notebook(Measurements(opened.sample, opened.recipe, unknown), list(opened.not_measured))
    if opened.model is None:
        progress("spectral norms")
        book.put(nonfinite=nonfinite_weights(opened.weights))
        _weights(book, opened.weights, Growth.nothing(), settings)
        return book.measurements, tuple(book.gaps)
    # The question is about training: a model saved in eval mode is measured in training mode,
    # one with only some layers frozen in eval mode is measured as it is.
    training = None if any(m.training for m in opened.model.modules()) else True
    with borrowed(opened.model, training=training) as model:
        _measure_model(book, model, opened, settings, progress)
    return book.measurements, (*book.gaps, *_LATER)


def _measure_model(
    book: _Notebook, model: nn.Module, opened: Opened, settings: Settings, progress: Progress
) -> None:
    _measure_start(book, model, opened, settings, progress)
    if not opened.batches:
        return
    if opened.sample.source == "made up":
        why = "the sample is made up: give yours with --data"
        whats = ("scale of inputs and targets", "learning-rate range", "rehearsal and forecast")
        book.put(tuple(NotMeasured(what, "the model", why) for what in whats))
        return
    with told_in_one_line("reading the sample"):
        book.put(data=measure_data(opened, settings))
    _train(book, opened, settings, progress)


def _measure_start(
    book: _Notebook, model: nn.Module, opened: Opened, settings: Settings, progress: Progress
) -> None:
    """What the weights as they are show. The trace, which holds the activations, ends with it."""
    growth = Growth.nothing()
    if opened.batches:
        progress("gradients of the loss")
        with told_in_one_line("computing the loss and its gradients"):
            real = measure_real_loss(opened, settings)
        book.put(
            real.not_measured,
            loss=real.loss,
            parameters=real.parameters,
            modules=real.modules,
            gradient_norm=real.gradient_norm,
            nonfinite=real.nonfinite,
        )
        progress("Jacobian growth")
        with told_in_one_line("probing the Jacobian"):
            growth = measure_growth(opened, settings)
            rows, gaps = measure_forward_gain(opened, growth, settings)
        book.put((*growth.not_measured, *gaps), stages=rows, trunk=growth.trunk)
        with told_in_one_line("measuring the gradient through time"):
            recurrent, gaps = measure_through_time(opened, settings, growth.trace)
        book.put(gaps, recurrent=recurrent)
    else:
        book.put(nonfinite=nonfinite_weights(model))
    progress("spectral norms")
    _weights(book, model, growth, settings)


def _weights(book: _Notebook, source: Any, growth: Growth, settings: Settings) -> None:
    sizes: dict[str, tuple[int, ...]] = {}
    behind: dict[str, str] = {}
    if growth.trace is not None and isinstance(source, nn.Module):
        sizes, behind = input_sizes(source, growth.trace), activations(source, growth.trace)
    rows, gaps = measure_weights(source, sizes, behind, settings)
    state = judge_state(rows, source, settings)
    if book.measurements.sample.target in ("given", "in the model"):
        state = judged_by_loss(state, book.measurements.loss)
    book.put(gaps, weights=rows, state=state)


def _train(book: _Notebook, opened: Opened, settings: Settings, progress: Progress) -> None:
    """The probes that take training steps: range test, rehearsal, update ratios."""
    if book.measurements.nonfinite:
        why = "the loss or its gradient is not finite before the first step"
        whats = ("learning-rate range", "rehearsal")
        book.put(tuple(NotMeasured(what, "the model", why) for what in whats))
        return
    progress("learning-rate range")
    with told_in_one_line("testing learning rates"):
        ranged = measure_rate_range(opened, settings)
    book.put(ranged.not_measured, rate_range=ranged.rate_range)
    progress("rehearsal")
    steepest = ranged.rate_range.steepest if ranged.rate_range else None
    with told_in_one_line("rehearsing training steps"):
        rehearsed = rehearse(opened, settings, lr=steepest if opened.recipe.lr is None else None)
    ratios = rehearsed.update_ratios
    parameters: tuple[ParameterRow, ...] = tuple(
        replace(row, update_ratio=ratios.get(row.parameter)) for row in book.measurements.parameters
    )
    book.put(rehearsed.not_measured, rehearsal=rehearsed.rehearsal, parameters=parameters)
