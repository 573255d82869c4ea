"""What a recipe of the corpus is: a model, the data it is trained on, and how.

Nothing here knows gradaudit but for the record of the recipe, which is what both sides speak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe

Loss = Callable[[Any, Any], Tensor]
Pair = tuple[Any, Any]  # (inputs, target); inputs a tensor, a tuple of them, or a mapping

LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda out, y: F.cross_entropy(out.flatten(0, -2), y.flatten()),
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}

# What can be planted. A case without a fault may still not train: training tells.
FAULTS = (
    "rate-high",
    "rate-low",
    "init-large",
    "init-small",
    "init-symmetric",
    "embedding-scale",
    "input-scale",
    "target-scale",
    "clip-tight",
    "clip-missing",
    "depth-vanishing",
    "depth-exploding",
    "time-vanishing",
    "time-exploding",
    "dead-units",
    "saturation",
    "attention-scale",
    "warmup-missing",
    "precision",
    "eps",
    "weight-decay",
    "frozen",
)


@dataclass(frozen=True)
class Task:
    """Endless training data, a loss, and what the best constant prediction costs.

    ``stream(seed)`` yields ``(inputs, target)`` for ever, another order (or other data) for another
    seed. ``loss`` is a name of :data:`LOSSES` or a function of output and target. ``same_as`` names
    the task this one is a rescaling of: the best loss there, in units of the constant's, is the
    best here.
    """

    name: str
    loss: str | Loss
    stream: Callable[[int], Iterator[Pair]]
    constant: float | None = None  # None: from the targets, for the named losses
    same_as: str = ""

    @property
    def base(self) -> str:
        """The task whose best recipe sets what can be reached."""
        return self.same_as or self.name

    def take(self, seed: int, count: int) -> list[Pair]:
        """The first batches of a stream."""
        return list(islice(self.stream(seed), count))

    def measure(self, output: Any, target: Any) -> Tensor:
        """The scalar loss."""
        return (LOSSES[self.loss] if isinstance(self.loss, str) else self.loss)(output, target)

    def best_constant(self) -> float:
        """Loss of the best prediction that looks at no input, over 60 batches."""
        if self.constant is not None:
            return self.constant
        target = torch.cat(
            [target.flatten(0, max(target.dim() - 2, 0)) for _, target in self.take(12345, 60)]
        ).double()
        if self.loss == "mse":
            return float(target.var(0, correction=0).mean())
        if self.loss == "l1":
            return float((target - target.median(0).values).abs().mean())
        if self.loss == "bce_with_logits":
            p = target.mean(0).clamp(1e-9, 1 - 1e-9)
            return float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        if self.loss == "cross_entropy":
            p = torch.bincount(target.flatten().long()).double()
            p = p[p > 0] / p.sum()
            return float(-(p * p.log()).sum())
        raise ValueError(f"{self.name}: give the constant of a custom loss")


@dataclass(frozen=True)
class Case:
    """One recipe: what is trained, on what, how, and what was planted in it.

    ``build`` draws from torch's global generator, which the caller seeds. ``shown`` is how many
    batches the audit gets to see. ``fault`` is empty or one of :data:`FAULTS`.
    """

    name: str  # "family/what is special"
    task: Task
    build: Callable[[], nn.Module]
    recipe: Recipe
    fault: str = ""
    shown: int = 8
    also: tuple[str, ...] = field(default=())  # other names of the same cause

    @property
    def family(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    def model(self, seed: int) -> nn.Module:
        """The start of one run."""
        torch.manual_seed(seed)
        return self.build()

    def sample(self) -> list[Pair]:
        """What a user would hand to the audit."""
        return self.task.take(77, self.shown)


def epochs(x: Any, y: Any, batch: int) -> Callable[[int], Iterator[Pair]]:
    """A stream over a finite data set, shuffled anew each epoch; short last batches are dropped."""

    def stream(seed: int) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(seed)
        count = len(y)
        while True:
            order = torch.randperm(count, generator=generator)
            for start in range(0, count - batch + 1, batch):
                rows = order[start : start + batch]
                yield x[rows], y[rows]

    return stream


def drawn(draw: Callable[[torch.Generator], Pair]) -> Callable[[int], Iterator[Pair]]:
    """A stream of batches that are drawn anew, never repeated."""

    def stream(seed: int) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield draw(generator)

    return stream
