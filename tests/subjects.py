"""Opened subjects for tests of single probes."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradaudit.records import Recipe, SampleRow, SubjectRow
from gradaudit.subject import Batch, Objective, Opened


def opened(
    model: nn.Module,
    *inputs: Any,
    objective: Objective | None = None,
    target: Any = None,
    recipe: Recipe | None = None,
    **keywords: Any,
) -> Opened:
    """A model with one batch, as the opener would hand it to a probe."""
    batch = Batch(keywords or inputs, target)
    row = SubjectRow("test", "code", "", 0, 0, 0)
    sample = SampleRow("given", "given" if target is not None else "none", 1, None, "")
    return Opened(model, {}, (batch,), objective, recipe or Recipe(), None, row, sample)
