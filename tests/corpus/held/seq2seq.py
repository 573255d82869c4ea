"""Strings of digits, written backwards by a decoder that is fed the answer so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, adam, adamw, each, frozen, pretrained, sgd, times

LENGTH, START = 6, 10


def draw(generator: torch.Generator) -> Pair:
    text = torch.randint(0, 10, (32, LENGTH), generator=generator)
    answer = text.flip(1)
    fed = torch.cat([torch.full((32, 1), START), answer[:, :-1]], 1)
    return (text, fed), answer


BACKWARDS = Task("backwards", "cross_entropy", drawn(draw))


class Pairs(nn.Module):
    """Two GRUs: the state of the first is where the second starts."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 16)
        self.encoder = nn.GRU(16, hidden, batch_first=True)
        self.decoder = nn.GRU(16, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, text: Tensor, fed: Tensor) -> Tensor:
        state = self.encoder(self.words(text))[1]
        return self.head(self.decoder(self.words(fed), state)[0])


class Translator(nn.Module):
    def __init__(self, layers: int = 1, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(11, width)
        self.places = nn.Parameter(torch.randn(LENGTH, width))
        self.body = nn.Transformer(width, 4, layers, layers, 2 * width, 0.0, batch_first=True)
        self.head = nn.Linear(width, 10)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), -torch.inf).triu(1))

    def forward(self, text: Tensor, fed: Tensor) -> Tensor:
        source, goal = self.words(text) + self.places, self.words(fed) + self.places
        return self.head(self.body(source, goal, tgt_mask=self.mask))


def attention(build: Build, factor: float) -> Build:
    def change(module: nn.MultiheadAttention) -> None:
        module.in_proj_weight[: 2 * module.embed_dim] *= factor

    return each(build, nn.MultiheadAttention, change)


def recurrent(build: Build, factor: float) -> Build:
    return each(build, nn.GRU, lambda rnn: rnn.weight_hh_l0.mul_(factor))


def deep() -> nn.Module:
    return Translator(3, 24)


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"seq2seq/{name}", BACKWARDS, build, recipe, fault, **more)


def cases() -> list[Case]:
    """GRUs and transformers."""
    words = ("encoder", "words")
    return [
        case("gru-adam", Pairs, adam(1e-2, 600)),
        case("gru-gone-on-with", pretrained(Pairs, BACKWARDS, 350, 1e-2), adam(1e-3, 300)),
        case("transformer-adam", Translator, adam(2e-3, 300), shown=16),
        case("transformer-warm", Translator, adamw(3e-3, 300, warmup=100), shown=2),
        case("deep-warm", deep, adam(1e-3, 350, warmup=60)),
        case("gru-sgd-0.01", Pairs, sgd(0.01, 500), "rate-low"),
        case("gru-adam-0.5", Pairs, adam(0.5, 400), "rate-high"),
        case(
            "gru-recurrent-30",
            recurrent(Pairs, 30.0),
            sgd(0.1, 500),
            "init-large",
            also=("saturation", "time-exploding"),
        ),
        case(
            "gru-frozen",
            frozen(recurrent(Pairs, 0.05), words),
            adam(1e-2, 400),
            "frozen",
            also=("time-vanishing",),
        ),
        case(
            "gru-words-1e-3",
            each(Pairs, nn.Embedding, times(1e-3)),
            sgd(0.1, 500),
            "embedding-scale",
        ),
        case("gru-clip", Pairs, sgd(0.3, 500, clip_norm=1e-3), "clip-tight"),
        case(
            "transformer-keys-50", attention(Translator, 50.0), adam(3e-4, 400), "attention-scale"
        ),
        case("transformer-0.3", Translator, adam(0.3, 300), "rate-high"),
    ]
