"""What the best output that looks at no input costs, for a loss of which nothing is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import GradauditError
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective

_ITERATIONS = 60  # of L-BFGS: quadratic and cross-entropy losses are at their least after ten


def constant_output(
    model: nn.Module, objective: Objective, batches: Sequence[Batch]
) -> float | None:
    """The least loss of outputs that are the same for every sample of the batches.

    The model's output on the first batch gives the shape; every floating tensor in it whose first
    axis counts samples is replaced by one row that is free, and the rows are fitted by L-BFGS to
    all batches together. ``None`` where the loss refuses such outputs or is not finite there.
    Cost: a forward pass, and the loss itself some sixty times.
    """
    with borrowed(model):
        try:
            with torch.no_grad():
                output = batches[0].run(model)
            count = _samples(output)
            return None if count is None else _fitted(output, count, objective, batches)
        except (GradauditError, RuntimeError, TypeError, ValueError):
            return None


def _samples(output: Any) -> int | None:
    sizes = {t.shape[0] for t in _tensors(output) if t.dim() and t.is_floating_point()}
    return max(sizes) if sizes else None


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in _tensors(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in _tensors(item)]
    return []


def _fitted(
    output: Any, count: int, objective: Objective, batches: Sequence[Batch]
) -> float | None:
    rows: list[Tensor] = []

    def free(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.dim() and value.shape[0] == count and value.is_floating_point():
                rows.append(value.float().mean(0, keepdim=True).requires_grad_())
                return _Row(len(rows) - 1, value.dtype)
            return value
        if isinstance(value, dict):
            return {key: free(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(free(item) for item in value)
        return value

    shape = free(output)
    optimizer = torch.optim.LBFGS(rows, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    best = math.inf

    def closure() -> float:
        nonlocal best
        optimizer.zero_grad()
        with torch.enable_grad():
            losses = [objective(_filled(shape, rows, count), batch) for batch in batches]
            loss = torch.stack([each.float() for each in losses]).mean()
        loss.backward()
        value = float(loss.detach())
        best = min(best, value) if math.isfinite(value) else best
        return value

    optimizer.step(closure)
    return best if math.isfinite(best) else None


class _Row:
    """Where a free row stands in the output."""

    def __init__(self, index: int, dtype: torch.dtype) -> None:
        self.index, self.dtype = index, dtype


def _filled(shape: Any, rows: Sequence[Tensor], count: int) -> Any:
    if isinstance(shape, _Row):
        row = rows[shape.index]
        return row.expand(count, *row.shape[1:]).to(shape.dtype)
    if isinstance(shape, dict):
        return {key: _filled(item, rows, count) for key, item in shape.items()}
    if type(shape) in (list, tuple):
        return type(shape)(_filled(item, rows, count) for item in shape)
    return shape
