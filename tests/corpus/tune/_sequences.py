"""Tasks and models that read sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Task, drawn


class Reader(nn.Module):
    """A recurrent layer under a linear map, of its last output or of every one."""

    def __init__(self, layer: nn.RNNBase, outputs: int, every: bool = False) -> None:
        super().__init__()
        self.layer, self.every = layer, every
        self.head = nn.Linear(layer.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.layer(x)
        return self.head(states if self.every else states[:, -1])


def recall(length: int, batch: int = 32) -> Task:
    """Which of four symbols came first, before noise; one of them is more common than the rest."""
    share = torch.tensor([0.55, 0.15, 0.15, 0.15])

    def draw(generator: torch.Generator) -> Any:
        x = 0.3 * torch.randn(batch, length, 5, generator=generator)
        y = torch.multinomial(share, batch, replacement=True, generator=generator)
        x[:, 0, :4] += 1.5 * F.one_hot(y, 4)
        x[:, 0, 4] = 1.0
        return x, y

    return Task(f"recall-{length}", "cross_entropy", drawn(draw))


def echo(length: int, back: int, batch: int = 32) -> Task:
    """Each step's answer is the symbol of some steps ago; the first few are symbol 0."""

    def draw(generator: torch.Generator) -> Any:
        symbol = torch.randint(0, 4, (batch, length), generator=generator)
        y = F.pad(symbol, (back, 0))[:, :length]
        return F.one_hot(symbol, 4).float(), y

    return Task(f"echo-{length}-{back}", "cross_entropy", drawn(draw))


def adding(length: int, batch: int = 32) -> Task:
    """The sum of the two marked numbers of a sequence."""

    def draw(generator: torch.Generator) -> Any:
        values = torch.rand(batch, length, generator=generator)
        marks = torch.zeros(batch, length)
        half = length // 2
        first = torch.randint(0, half, (batch, 1), generator=generator)
        second = torch.randint(half, length, (batch, 1), generator=generator)
        marks.scatter_(1, first, 1.0).scatter_(1, second, 1.0)
        y = (values * marks).sum(1, keepdim=True)
        return torch.stack([values, marks], 2), y

    return Task(f"adding-{length}", "mse", drawn(draw))
