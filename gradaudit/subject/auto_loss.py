"""The loss where none was given: chosen from what the model returns and what the target holds."""

from __future__ import annotations

from typing import Any

import torch

from gradaudit.errors import BadData
from gradaudit.subject.losses import LOSSES, class_axis
from gradaudit.subject.objective import NamedObjective, OwnObjective, output_and_target
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.outputs import main_tensor, own_loss


def auto_objective(output: Any, batch: Batch) -> Objective:
    """The loss that fits the model's output and the batch's target, and why.

    Raises ``BadData`` where nothing fits.
    """
    if own_loss(output) is not None:
        return OwnObjective("The model returns its own loss.")
    tensor = main_tensor(output)
    if tensor is not None and tensor.dim() == 0:
        return OwnObjective("The model's output is a scalar, taken as the loss.", "scalar output")
    if batch.target is None:
        raise BadData("there is no target to take a loss against", next_step="give --loss")
    output, target = output_and_target(output, batch, "auto")
    name, why = _choose(output, target)
    return NamedObjective(LOSSES[name], f"Chosen automatically: {why}.")


def _choose(output: torch.Tensor, target: torch.Tensor) -> tuple[str, str]:
    whole = not target.is_floating_point() and not target.is_complex()
    if not whole:
        return _choose_float(output, target)
    column = target.squeeze(-1) if target.shape[-1:] == (1,) else target
    axis = class_axis(output, target)
    axis = class_axis(output, column) if axis is None else axis
    if axis is None and output.dim() == 3 and target.numel() == output.shape[:-1].numel():
        axis = -1
    if axis is not None and output.shape[axis] > 1:
        return _choose_classes(output, axis)
    if _is_binary(target):
        return _binary(output, "integer targets are 0 or 1, one output for each")
    return "mse", "integer targets with one output for each"


def _choose_classes(output: torch.Tensor, axis: int) -> tuple[str, str]:
    classes = f"integer targets and {output.shape[axis]} outputs for each"
    detached = output.detach().float()
    if bool((detached <= 1e-6).all()) and _sums_to_one(detached.exp(), axis):
        return "nll", f"{classes} that are log-probabilities"
    if bool((detached >= 0).all()) and _sums_to_one(detached, axis):
        return "nll_of_probabilities", f"{classes} that are probabilities already"
    return "cross_entropy", classes


def _choose_float(output: torch.Tensor, target: torch.Tensor) -> tuple[str, str]:
    if _is_binary(target):
        return _binary(output, "floating targets are all 0 or 1")
    return "mse", "floating targets"


def _binary(output: torch.Tensor, why: str) -> tuple[str, str]:
    detached = output.detach()
    if bool(((detached >= 0) & (detached <= 1)).all()):
        return "bce", f"{why} and outputs lie in [0, 1]"
    return "bce_with_logits", why


def _is_binary(target: torch.Tensor) -> bool:
    return target.numel() > 1 and bool(((target == 0) | (target == 1)).all())


def _sums_to_one(p: torch.Tensor, axis: int) -> bool:
    return bool(((p.sum(axis) - 1).abs() < 1e-3).all())
