"""Opened subjects for the probes of the real loss: a model, batches and a loss, no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe, SampleRow, SubjectRow
from gradaudit.subject.opened import Batch, Opened, OptimizerFactory


@dataclass
class Loss:
    """The least an objective has to be; the real ones are tested in ``tests/subject``."""

    function: Callable[[Any, Any], Tensor]
    best_constant: float | None = None
    kind: str = "test"
    why: str = "given by the test"

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        return self.function(output, batch.target)

    def constant(self, batches: tuple[Batch, ...]) -> float | None:
        return self.best_constant

    def least(self, batches: tuple[Batch, ...]) -> float | None:
        return None

    def chance(self, output: Any, batch: Batch) -> tuple[float, int] | None:
        return None


MSE = Loss(F.mse_loss)
CROSS_ENTROPY = Loss(F.cross_entropy)


def opened(
    model: nn.Module | None,
    batches: list[tuple[Any, Any]],
    loss: Loss | None = MSE,
    *,
    recipe: Recipe | None = None,
    make_optimizer: OptimizerFactory | None = None,
) -> Opened:
    """Each batch is ``(inputs, target)``; ``inputs`` a tensor, a tuple or a mapping."""
    made = [
        Batch(x if isinstance(x, (tuple, dict)) else (x,), target=target) for x, target in batches
    ]
    return Opened(
        model=model,
        weights={},
        batches=tuple(made),
        objective=loss,
        recipe=recipe or Recipe(),
        make_optimizer=make_optimizer,
        row=SubjectRow("test", "code", "", 0, 0, 0),
        sample=SampleRow("given", "given", len(made), None, ""),
    )


def regression(count: int = 1, *, size: int = 16, width: int = 6) -> list[tuple[Tensor, Tensor]]:
    """Batches of a task that a line solves."""
    truth = torch.randn(width, 2)
    xs = [torch.randn(size, width) for _ in range(count)]
    return [(x, x @ truth) for x in xs]


def mlp(width: int = 6, hidden: int = 16, out: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, out))
