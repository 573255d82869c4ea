"""The loss: named, the user's own, or the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gradaudit.errors import BadData, ModelError, UsageError
from gradaudit.subject.code import UserCode, call, is_code
from gradaudit.subject.losses import ALIASES, IGNORED, LOSSES, Named, uniform_loss
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.outputs import main_tensor, own_loss
from gradaudit.telling import did_you_mean

LossFunction = Callable[[Any, Any], torch.Tensor]
_MODULES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll",
    nn.MSELoss: "mse",
    nn.L1Loss: "l1",
    nn.SmoothL1Loss: "smooth_l1",
    nn.HuberLoss: "huber",
    nn.BCEWithLogitsLoss: "bce_with_logits",
    nn.BCELoss: "bce",
}


@dataclass(frozen=True)
class NamedObjective:
    """One of :data:`LOSSES` on the model's main tensor and the batch's target."""

    loss: Named
    why: str

    @property
    def kind(self) -> str:
        """The loss's name."""
        return self.loss.name

    def __call__(self, output: Any, batch: Batch) -> torch.Tensor:
        """Scalar loss. Raises ``BadData`` where output and target do not fit."""
        return self.loss(*output_and_target(output, batch, self.kind))

    def constant(self, batches: tuple[Batch, ...]) -> float | None:
        """Loss of the best constant: the variance for mse, the unigram entropy for classes, ..."""
        targets = [b.target for b in batches if isinstance(b.target, torch.Tensor)]
        rows = _target_rows(targets, self.loss)
        return None if rows is None else self.loss.constant(rows)

    def least(self, batches: tuple[Batch, ...]) -> float | None:
        """Loss of a perfect prediction: 0, or the entropy of targets that are probabilities."""
        targets = [b.target for b in batches if isinstance(b.target, torch.Tensor)]
        rows = _target_rows(targets, self.loss)
        return None if rows is None else self.loss.least(rows)

    def chance(self, output: Any, batch: Batch) -> tuple[float, int] | None:
        """Ln C and C for C classes, counted on the axis the loss reads; ln 2 and 2 if binary."""
        if not self.loss.classes:
            return _uniform(self.loss, 0)
        rows, _ = self.loss.align(*output_and_target(output, batch, self.kind))
        return _uniform(self.loss, rows.shape[1])


@dataclass(frozen=True)
class OwnObjective:
    """The loss the model computes itself, or its scalar output."""

    why: str
    kind: str = "model's own loss"

    def __call__(self, output: Any, batch: Batch) -> torch.Tensor:
        """The output's ``.loss``, or the scalar output. Raises ``ModelError`` if there is none."""
        found = own_loss(output)
        if found is None and isinstance(output, torch.Tensor) and output.numel() == 1:
            found = output.reshape(())
        if found is None:
            raise ModelError("the model returned no loss", next_step="give --loss")
        return found

    def constant(self, batches: tuple[Batch, ...]) -> float | None:
        """Unigram entropy of integer ``labels``; ``None`` where there are none."""
        labels = [label for b in batches if (label := _labels(b)) is not None]
        rows = _target_rows(labels, LOSSES["cross_entropy"])
        return None if rows is None else LOSSES["cross_entropy"].constant(rows)

    def least(self, batches: tuple[Batch, ...]) -> float | None:
        """0 for integer ``labels``; ``None`` where there are none."""
        return 0.0 if any(_labels(b) is not None for b in batches) else None

    def chance(self, output: Any, batch: Batch) -> tuple[float, int] | None:
        """Ln C from the ``logits``' last axis beside a loss; unknown for a scalar output."""
        tensor = main_tensor(output)
        if own_loss(output) is None or tensor is None or tensor.dim() < 2 or tensor.shape[-1] < 2:
            return None
        return uniform_loss(int(tensor.shape[-1])), int(tensor.shape[-1])


@dataclass(frozen=True)
class CustomObjective:
    """The user's own ``(output, target) -> scalar``."""

    function: LossFunction
    why: str
    like: Named | None = None  # the named loss it equals, for its constants
    kind: str = "custom"
    by_value: bool = False  # known by its value, as the named loss reads output and target

    def __call__(self, output: Any, batch: Batch) -> torch.Tensor:
        """Scalar loss. Raises ``ModelError`` with what the function raised or returned."""
        found = call(self.function, f"the loss {self.kind}", output, batch.target)
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise ModelError(
                f"the loss {self.kind} returned {shape}",
                expected="a scalar tensor",
                next_step="reduce it, for example with .mean()",
            )
        return found.reshape(())

    def constant(self, batches: tuple[Batch, ...]) -> float | None:
        """As for the named loss it equals, else unknown."""
        return None if self.like is None else NamedObjective(self.like, "").constant(batches)

    def least(self, batches: tuple[Batch, ...]) -> float | None:
        """As for the named loss it equals, else unknown."""
        return None if self.like is None else NamedObjective(self.like, "").least(batches)

    def chance(self, output: Any, batch: Batch) -> tuple[float, int] | None:
        """As for the named loss it equals; torch's own reads classes along axis 1. Else unknown."""
        if self.like is not None and self.by_value:
            return NamedObjective(self.like, "").chance(output, batch)
        if self.like is None or not isinstance(output, torch.Tensor):
            return None
        return _uniform(self.like, output.shape[1] if output.dim() > 1 else output.numel())


def _uniform(loss: Named, classes: int) -> tuple[float, int] | None:
    """Loss of the uniform guess and the number of classes; ``None`` for other than classifiers."""
    if loss.name in ("bce", "bce_with_logits"):
        return uniform_loss(2), 2
    return (uniform_loss(classes), classes) if loss.classes and classes > 1 else None


def named_objective(name: str, why: str) -> NamedObjective:
    """The loss called ``name``; ``UsageError`` with the nearest name if there is none."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in LOSSES:
        raise UsageError(
            f"there is no loss called {name!r}",
            expected="auto, file.py:name, " + ", ".join(LOSSES),
            next_step=did_you_mean(key, [*LOSSES, *ALIASES], cutoff=0.5),
        )
    return NamedObjective(LOSSES[key], why)


def given_objective(loss: str | LossFunction, code: UserCode) -> Objective | None:
    """What the user asked for; ``None`` for ``auto``."""
    if isinstance(loss, str):
        if loss == "auto":
            return None
        if not is_code(loss):
            return named_objective(loss, "As asked for.")
        return _custom(code.find(loss), loss)
    return _custom(loss, "")


def _custom(function: Any, spec: str) -> Objective:
    if isinstance(function, type) and issubclass(function, nn.Module):
        function = call(function, spec or function.__name__)
    if isinstance(function, str):
        return named_objective(function, f"{function} was given.")
    if not callable(function):
        raise UsageError(
            f"the loss {spec} cannot be called",
            expected="a function (output, target) -> scalar",
            found=type(function).__name__,
        )
    name = spec or getattr(function, "__name__", type(function).__name__)
    like = _like(function)
    kind = like.name if like is not None else f"custom ({name})"
    return CustomObjective(function, f"The loss {name} was given.", like, kind)


def _like(function: Any) -> Named | None:
    name = _MODULES.get(type(function))
    if name is None or function.reduction != "mean":
        return None
    plain = type(function)()
    same = all(getattr(function, key, None) == getattr(plain, key, None) for key in (
        "label_smoothing", "ignore_index", "beta", "delta",
    ))  # fmt: skip
    weighted = any(getattr(function, key, None) is not None for key in ("weight", "pos_weight"))
    return LOSSES[name] if same and not weighted else None


def output_and_target(output: Any, batch: Batch, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's main tensor and the batch's target; ``BadData`` where there is no such pair."""
    tensor, target = main_tensor(output), batch.target
    if tensor is None:
        raise BadData(
            "the model's output holds no tensor to take a loss of",
            found=type(output).__name__,
            next_step="give --loss file.py:name with (output, target) -> scalar",
        )
    if target is None:
        raise BadData(
            f"the loss {kind} needs a target and the sample has none",
            expected="batches as (inputs, target), or keys x and y",
        )
    if not isinstance(target, torch.Tensor):
        try:
            target = torch.as_tensor(target, device=tensor.device)
        except (TypeError, ValueError, RuntimeError):
            raise BadData(
                f"the loss {kind} needs a tensor as target",
                found=type(target).__name__,
                next_step="give --loss file.py:name with (output, target) -> scalar",
            ) from None
    return tensor, target


def _labels(batch: Batch) -> torch.Tensor | None:
    inputs = batch.inputs
    labels = inputs.get("labels") if not isinstance(inputs, tuple) else None
    if isinstance(labels, torch.Tensor) and not labels.is_floating_point():
        return labels
    return None


def _target_rows(targets: list[torch.Tensor], loss: Named) -> torch.Tensor | None:
    """All targets as rows x features, float64: features are the last axis of two or more.

    Probabilities of classes are read as the loss reads them: along axis 1 of images.
    """
    if not targets:
        return None
    if loss.classes:
        targets = [t.movedim(1, -1) if _of_image(t) else t for t in targets]
    widths = {t.shape[-1] if t.dim() > 1 else 1 for t in targets}
    width = widths.pop() if len(widths) == 1 else 1
    if loss.classes and not targets[0].is_floating_point():
        width = 1
    rows = torch.cat([t.detach().reshape(-1, width) for t in targets]).double().cpu()
    rows = rows[(rows != IGNORED).all(1)] if loss.classes else rows
    return rows if len(rows) else None


def _of_image(target: torch.Tensor) -> bool:
    return target.is_floating_point() and target.dim() > 3
