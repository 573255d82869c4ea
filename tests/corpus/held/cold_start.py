"""Deep transformers that norm after the sum, at a rate they bear warm but not cold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, adam, adamw

VOCABULARY, LENGTH = 8, 8


def draw(generator: torch.Generator) -> Pair:
    """Each token and the one before it, added up; the first one's neighbour is the last."""
    text = torch.randint(0, VOCABULARY, (16, LENGTH), generator=generator)
    return text, (text + text.roll(1, 1)) % VOCABULARY


SUMS = Task("neighbours", "cross_entropy", drawn(draw))


class Stack(nn.Module):
    def __init__(self, layers: int, width: int = 32, gain: float = 1.0) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.randn(LENGTH, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
            for _ in range(layers)
        )
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, gain)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def net(layers: int, gain: float = 1.0) -> Build:
    return lambda: Stack(layers, gain=gain)


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"cold/{name}", SUMS, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Pairs with warm-up and without."""
    cold, high = "warmup-missing", ("rate-high",)
    return [
        case("2-warm", net(2), adam(3e-3, 400, warmup=60), shown=4),
        case("6-warm", net(6), adam(2e-3, 400, warmup=150), shown=16),
        case("6-cold", net(6), adam(4e-3, 450), cold, also=high, shown=16),
        case("8-cold", net(8, 1.5), adamw(4e-3, 350), cold, also=high, shown=4),
        case("6-fast-warm", net(6), adam(3e-3, 450, warmup=250), shown=2),
    ]
