"""A custom loss that only wraps one known by name: found by its value on the first batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from gradaudit.errors import BadData
from gradaudit.records import NotMeasured
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
    named = _equal_to(value, main_tensor(output), batch)
    if named is None:
        why = f"the loss {objective.kind} equals none that is known by name"
        return objective, (NotMeasured("loss at chance", "the model", why),)
    why = f"{objective.why} On the first batch it equals {named.name}."
    return replace(objective, like=named, kind=named.name, why=why, by_value=True), ()


def _equal_to(value: torch.Tensor, output: torch.Tensor | None, batch: Batch) -> Named | None:
    """The loss of that value, to the rounding of float32.

    The two or three digits of a half-precision value, zero and infinity are shared by losses that
    have nothing else in common.
    """
    exact = value.dtype in (torch.float32, torch.float64)
    if output is None or not exact or not 0 < abs(float(value)) < math.inf:
        return None
    for named in LOSSES.values():
        try:
            with torch.no_grad():
                other = NamedObjective(named, "")(output.to(value.dtype), batch)
        except (BadData, RuntimeError, ValueError, TypeError, IndexError):
            continue  # output and target are not of this loss's kind
        if math.isclose(float(value), float(other), rel_tol=_ROUNDING):
            return named
    return None
