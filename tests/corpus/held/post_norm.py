"""Transformers that norm after the sum, with warm-up and without: each token's mirror image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, adam, adamw, each, frozen, pretrained, sgd, times

VOCABULARY, LENGTH = 12, 10


def draw(generator: torch.Generator) -> Pair:
    text = torch.randint(0, VOCABULARY, (32, LENGTH), generator=generator)
    return text, text.flip(1)


MIRROR = Task("mirror", "cross_entropy", drawn(draw))


class Tagger(nn.Module):
    """One answer for each token."""

    def __init__(self, layers: int, width: int = 32, pre: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=pre
        )
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        for parameter in self.body.parameters():  # the copies of a layer start alike otherwise
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.words(x) + self.places))


def net(layers: int, width: int = 32, pre: bool = False) -> Build:
    return lambda: Tagger(layers, width, pre)


def queries(build: Build, factor: float) -> Build:
    """Queries and keys that are too large: each token looks at one place only."""

    def change(attention: nn.MultiheadAttention) -> None:
        attention.in_proj_weight[: 2 * attention.embed_dim] *= factor

    return each(build, nn.MultiheadAttention, change)


def body(build: Build, factor: float) -> Build:
    """All matrices of the layers, times a factor."""

    def change(layer: nn.TransformerEncoderLayer) -> None:
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)

    return each(build, nn.TransformerEncoderLayer, change)


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"post-norm/{name}", MIRROR, build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("2-adam", net(2), adam(2e-3, 400)),
        case("2-warm", net(2), adamw(3e-3, 400, warmup=100)),
        case("4-warm", net(4), adam(1e-3, 400, warmup=100), shown=4),
        case("6-warm", net(6, 24), adam(1e-3, 350, warmup=80), shown=2),
        case("2-sgd", net(2), sgd(0.1, 500)),
        case("2-gone-on-with", pretrained(net(2), MIRROR, 250), adam(5e-4, 250)),
    ]


def faulty() -> list[Case]:
    cold = "warmup-missing"
    inside = ("body", "words", "places")
    return [
        case("6-cold", net(6, 24), adam(5e-3, 300), cold, also=("rate-high",), shown=4),
        case("2-adam-0.1", net(2), adam(0.1, 400), "rate-high"),
        case("2-sgd-1e-4", net(2), sgd(1e-4, 400), "rate-low"),
        case("2-queries-40", queries(net(2), 40.0), adam(1e-3, 400), "attention-scale"),
        case("2-frozen", frozen(net(2), inside), adam(2e-3, 400), "frozen"),
        case(
            "2-words-200",
            each(net(2), nn.Embedding, times(200.0)),
            sgd(0.02, 400),
            "embedding-scale",
        ),
    ]


def cases() -> list[Case]:
    """Depth, warm-up, and start."""
    return sound() + faulty()
