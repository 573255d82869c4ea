"""A custom loss that only wraps one known by name: found by its value on the first batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gradaudit.errors import BadData
from gradaudit.records import NotMeasured
from gradaudit.subject.batches import map_tensors
from gradaudit.subject.losses import LOSSES, Named
from gradaudit.subject.objective import CustomObjective, NamedObjective
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.outputs import main_tensor

_ROUNDING = 1e-5  # sums of float32 in another order


def recognised(
    objective: Objective, output: Any, batch: Batch, value: torch.Tensor
) -> tuple[Objective, tuple[NotMeasured, ...]]:
    """A custom loss whose ``value`` is that of a named one on this batch, as that one.

    Then what a guess costs is known, else it is said not to be. Any other objective is given back
    as it is.
    """
    if not isinstance(objective, CustomObjective) or objective.like is not None:
        return objective, ()
    alike = [each for each in LOSSES.values() if _equal(each, value, output, batch)]
    named = _still_equal(alike, objective, output, batch) if alike else None
    if named is None:
        why = f"the loss {objective.kind} equals none that is known by name"
        return objective, (NotMeasured("loss at chance", "the model", why),)
    why = f"{objective.why} On the first batch it equals {named.name}."
    return replace(objective, like=named, kind=named.name, why=why, by_value=True), ()


def _equal(named: Named, value: torch.Tensor, output: Any, batch: Batch) -> bool:
    """Whether this loss has that value, to the rounding of float32.

    The two or three digits of a half-precision value, zero and infinity are shared by losses that
    have nothing else in common.
    """
    tensor, exact = main_tensor(output), value.dtype in (torch.float32, torch.float64)
    if tensor is None or not exact or not 0 < abs(float(value)) < math.inf:
        return False
    try:
        with torch.no_grad():
            other = NamedObjective(named, "")(tensor.to(value.dtype), batch)
    except (BadData, RuntimeError, ValueError, TypeError, IndexError):
        return False  # output and target are not of this loss's kind
    return math.isclose(float(value), float(other), rel_tol=_ROUNDING)


def _still_equal(
    alike: Sequence[Named], objective: CustomObjective, output: Any, batch: Batch
) -> Named | None:
    """The first that agrees on another output too: at a start of zeros many losses are alike."""
    generator = torch.Generator().manual_seed(0)
    moved = map_tensors(output, lambda tensor: _moved(tensor, generator))
    try:
        with torch.no_grad():
            value = objective(moved, batch)
    except Exception:  # whatever the user's loss makes of an output that is not the model's
        return None
    return next((each for each in alike if _equal(each, value, moved, batch)), None)


def _moved(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Far enough to leave a hinge; probabilities and their logs stay such, unless all are alike."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    drawn = torch.rand(tensor.shape, generator=generator).to(tensor)
    if bool(tensor.min() < tensor.max()):
        if bool((tensor >= 0).all() & (tensor <= 1).all()):
            return (tensor + drawn) / 2
        if bool((tensor <= 0).all()):
            return tensor * (1 + drawn)
    return tensor + 3 * (2 * drawn - 1) * (1 + tensor.detach().abs().mean())
