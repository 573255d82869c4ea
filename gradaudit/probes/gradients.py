"""Gradients of the real loss, taken the way the user trains: per parameter and per module call.

One forward and backward pass per batch serves this probe, the activations and the search for
non-finite numbers. Cost: a training step without the optimizer per batch, two norms per tensor,
and a sketch of the gradient where there are batches enough to tell its noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradaudit.probes._estimates import mean_estimate
from gradaudit.probes._hooks import (
    all_finite,
    backward,
    clear_gradients,
    take_loss,
)
from gradaudit.probes._module_rows import CallRecorder
from gradaudit.probes.noise_scale import (
    NEEDED,
    BatchGradients,
    measure_noise_scale,
)
from gradaudit.probes.nonfinite import find_producer, nonfinite_weights
from gradaudit.probes.norm_distribution import describe_norms
from gradaudit.probes.representation import Ranks, samples_of
from gradaudit.probes.trace import l2_norm
from gradaudit.records import (
    Estimate,
    GradientNorm,
    LossRow,
    ModuleRow,
    NonFinite,
    NotMeasured,
    ParameterRow,
)
from gradaudit.settings import Settings
from gradaudit.subject.batches import sample_count
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective, Opened
from gradaudit.subject.places import modules_of
from gradaudit.subject.process_state import save_process_state
from gradaudit.telling import listed


@dataclass(frozen=True)
class RealLoss:
    """What the passes of the real loss showed."""

    loss: LossRow | None
    parameters: tuple[ParameterRow, ...]
    modules: tuple[ModuleRow, ...]
    gradient_norm: GradientNorm | None
    nonfinite: tuple[NonFinite, ...]
    not_measured: tuple[NotMeasured, ...]
    noise_scale: Estimate | None = None  # samples


@dataclass
class _Passes:
    """The passes over the batches, and what they add up to; all sums in float64."""

    model: nn.Module
    objective: Objective
    recorder: CallRecorder
    gradients: BatchGradients | None = None  # None: too few batches to compare them
    losses: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    norms: dict[str, list[float]] = field(default_factory=dict)
    chance: tuple[float, int] | None = None
    nonfinite: tuple[NonFinite, ...] = ()
    missing: list[NotMeasured] = field(default_factory=list)

    def run(self, batch: Batch, number: int) -> None:
        """One forward and backward pass; a second, watched one if something was not finite."""
        clear_gradients(self.model)
        start_again = save_process_state()
        sound = self._pass(batch, number)
        clear_gradients(self.model)
        if not (sound and self.recorder.output_finite) and not self.nonfinite:
            start_again()
            with self.recorder.paused():
                self._name_producer(batch, f"batch {number}", sound)

    def _pass(self, batch: Batch, number: int) -> bool:
        with self.recorder.forward():
            output, loss = take_loss(self.model, self.objective, batch)
        if number == 0:
            self.chance = self.objective.chance(output, batch)
        if loss.requires_grad:
            backward(loss)
        elif number == 0:
            why = "the loss does not depend on any trainable parameter"
            self.missing.append(NotMeasured("gradients", "the model", why))
        norms = {
            name: float(l2_norm(_values(parameter.grad)))
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }
        for name, norm in norms.items():
            self.norms.setdefault(name, []).append(norm)
        loss_value, total = float(loss.detach()), math.hypot(*norms.values())
        if math.isfinite(loss_value):
            self.losses.append(loss_value)
        if norms and math.isfinite(total):
            self.totals.append(total)
        sound = math.isfinite(loss_value) and math.isfinite(total)
        if sound and norms and self.gradients is not None:
            self.gradients.add(sample_count(batch))
        return sound

    def _name_producer(self, batch: Batch, where: str, sound: bool) -> None:
        what = "producer of the non-finite numbers"
        try:
            found = find_producer(self.model, self.objective, batch)
        except Exception as error:  # code that runs alone but not under a dispatch mode
            why = f"watching every operation raised {type(error).__name__}: {error}"
            self.missing.append(NotMeasured(what, where, why))
            return
        if found is not None:
            self.nonfinite = (found,)
        elif not sound:  # an output of written infinities with a finite loss is nobody's fault
            why = "it was in the batch already, or did not come back"
            self.missing.append(NotMeasured(what, where, why))


def measure_real_loss(opened: Opened, settings: Settings) -> RealLoss:
    """Loss, gradients, activations and non-finite numbers on up to ``gradient_batches`` batches.

    Call it inside ``borrowed(model, training=True)``; running statistics are put back. Inputs do
    not require gradients unless the user's do. A parameter is ``connected`` if the loss gave it a
    gradient; frozen ones are not. ``weight_norm`` and every other number leave non-finite entries
    out, and say so in ``not_measured``. Where something is not finite the pass is run once more,
    watched, to name the producer.

    Raises :class:`ModelError` where the user's code raises.
    """
    model, objective = opened.model, opened.objective
    if model is None or objective is None or not opened.batches:
        why = "only weights were opened" if model is None else "there is no data or no loss"
        missing = (NotMeasured("gradients and activations", "the model", why),)
        return RealLoss(None, (), (), None, (), missing)
    batches = opened.batches[: settings.budget.gradient_batches]
    with borrowed(model), CallRecorder(model, Ranks(model, samples_of(opened))) as recorder:
        gradients = BatchGradients(model) if len(batches) >= NEEDED else None
        seen = _Passes(model, objective, recorder, gradients, nonfinite=nonfinite_weights(model))
        for number, batch in enumerate(batches):
            seen.run(batch, number)
    noise_scale = None
    if seen.totals:
        noise_scale, gaps = measure_noise_scale(opened, settings, gradients)
        seen.missing.extend(gaps)
    return RealLoss(
        loss=_loss_row(objective, batches, seen),
        parameters=_parameter_rows(model, seen),
        modules=recorder.rows(seen.missing),
        gradient_norm=describe_norms(seen.totals, settings.limit("tail_ratio").value),
        nonfinite=seen.nonfinite,
        not_measured=tuple(seen.missing),
        noise_scale=noise_scale,
    )


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _parameter_rows(model: nn.Module, seen: _Passes) -> tuple[ParameterRow, ...]:
    rows, spoilt, users = [], [], modules_of(model)
    for name, parameter in model.named_parameters():
        norms = seen.norms.get(name, [])
        finite = [n for n in norms if math.isfinite(n)]
        if len(finite) < len(norms):
            spoilt.append(name)
        weights = parameter.detach()
        if not all_finite([weights]):
            weights = torch.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
        rows.append(
            ParameterRow(
                parameter=name,
                trainable=parameter.requires_grad,
                connected=bool(norms),
                weight_norm=float(l2_norm(weights)),
                gradient_norm=mean_estimate(finite, "L2 norm", floor=0.0) if finite else None,
                update_ratio=None,
                size=parameter.numel(),
                module=users[name],
            )
        )
    if spoilt:
        why = "NaN or infinite on at least one batch, which was left out"
        seen.missing.append(NotMeasured("gradient norm", listed(spoilt), why))
    return tuple(rows)


def _loss_row(objective: Objective, batches: tuple[Batch, ...], seen: _Passes) -> LossRow:
    if len(seen.losses) < len(batches):
        share = f"{len(batches) - len(seen.losses)} of {len(batches)} batches"
        seen.missing.append(NotMeasured("initial loss", share, "NaN or infinite"))
    chance, classes = seen.chance or (None, None)
    return LossRow(
        kind=objective.kind,
        why=objective.why,
        initial=mean_estimate(seen.losses, "loss") if seen.losses else None,
        constant=objective.constant(batches),
        chance=chance,
        classes=classes,
    )
