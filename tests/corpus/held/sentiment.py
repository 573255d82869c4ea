"""Made-up reviews: words with a mood, and a "not" that turns the next two words round."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    Recurrent,
    adam,
    each,
    frozen,
    lazily,
    pretrained,
    rmsprop,
    rng,
    sgd,
    times,
)

WORDS, LENGTH = 160, 24


@cache
def reviews() -> tuple[Tensor, Tensor]:
    """4,000 of them; a third of the words have a mood, word 0 is "not"."""
    generator = rng(31)
    mood = torch.randn(WORDS, generator=generator) * (torch.arange(WORDS) % 3 == 1)
    text = torch.randint(1, WORDS, (4000, LENGTH), generator=generator)
    text[torch.rand(4000, LENGTH, generator=generator) < 0.02] = 0
    turned = torch.zeros_like(text, dtype=torch.bool)
    turned[:, 1:] |= text[:, :-1] == 0
    turned[:, 2:] |= text[:, :-2] == 0
    score = (mood[text] * torch.where(turned, -1.0, 1.0)).sum(1)
    return text, (score > 0).float()[:, None]


@cache
def rare() -> tuple[Tensor, Tensor]:
    """One review in twelve is of the class looked for: a frequent word decides."""
    text, _ = reviews()
    generator = rng(32)
    wanted = torch.rand(len(text), generator=generator) < 1 / 12
    text = text.clone()
    text[text == 5] = 6
    place = torch.randint(LENGTH // 2, LENGTH, (len(text),), generator=generator)
    rows = torch.arange(len(text))
    text[rows[wanted], place[wanted]] = 5
    return text, wanted.float()[:, None]


REVIEWS = Task("reviews", "bce_with_logits", lazily(reviews, 32))
RARE = Task("rare", "bce_with_logits", lazily(rare, 32))


def lstm(embed: int = 16, hidden: int = 24, layers: int = 1) -> Build:
    def made() -> nn.Module:
        rnn = nn.LSTM(embed, hidden, layers, batch_first=True)
        return Recurrent(nn.Embedding(WORDS, embed), rnn, nn.Linear(hidden, 1), whole=False)

    return made


def bag(embed: int = 24, hidden: int = 24, mode: str = "mean") -> Build:
    def made() -> nn.Module:
        head = [nn.Linear(embed, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
        return nn.Sequential(nn.EmbeddingBag(WORDS, embed, mode=mode), *head)

    return made


def words(build: Build, factor: float) -> Build:
    return each(build, (nn.Embedding, nn.EmbeddingBag), times(factor))


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"sentiment/{name}", more.pop("task", REVIEWS), build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("lstm-adam", lstm(), adam(1e-2, 700)),
        case("lstm-rare", lstm(), adam(1e-2, 500), task=RARE),
        case("lstm-gone-on-with", pretrained(lstm(), REVIEWS, 400, 1e-2), adam(2e-3, 400), shown=2),
        case("bag-adam", bag(), adam(1e-2, 700)),
        case("bag-sgd", words(bag(mode="sum"), 0.1), sgd(0.05, 1000), shown=16),
        case("bag-rmsprop", bag(), rmsprop(3e-3, 700)),
        case("bag-small-words", words(bag(), 0.1), adam(5e-3, 700), shown=4),
        case("bag-rare", bag(), adam(5e-3, 700), task=RARE),
    ]


def faulty() -> list[Case]:
    tiny = ("rate-low",)
    return [
        case("lstm-rare-sgd", lstm(), sgd(0.01, 600), "rate-low", task=RARE),
        case("lstm-adam-1", lstm(), adam(1.0, 500), "rate-high"),
        case("lstm-words-1e-3", words(lstm(), 1e-3), sgd(0.1, 700), "embedding-scale"),
        case(
            "lstm-words-100",
            words(lstm(), 100.0),
            adam(3e-3, 700),
            "embedding-scale",
            also=("saturation",),
        ),
        case(
            "bag-words-300",
            words(bag(), 300.0),
            sgd(0.1, 700),
            "embedding-scale",
            also=("rate-high",),
        ),
        case("bag-clip", bag(), sgd(0.5, 900, clip_norm=3e-3), "clip-tight", also=tiny),
        case(
            "bag-frozen-words",
            frozen(words(bag(), 0.02), ("0.",)),
            sgd(0.3, 700),
            "frozen",
            also=("embedding-scale",),
        ),
        case("bag-decay", bag(), adam(5e-3, 700, weight_decay=0.2), "weight-decay"),
        case("bag-rare-decay", bag(), sgd(0.1, 700, weight_decay=0.3), "weight-decay", task=RARE),
    ]


def cases() -> list[Case]:
    """LSTMs and bags of words."""
    return sound() + faulty()
