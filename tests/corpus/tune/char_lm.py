"""Language models over characters of Python's own documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task
from tests.corpus.tune._common import adam, adamw, frozen, gain, normal, rmsprop, sgd, started

LETTERS = " abcdefghijklmnopqrstuvwxyz.,'_()"
V = len(LETTERS)
CONTEXT, LENGTH = 6, 24


@cache
def text() -> Tensor:
    """Some 60,000 characters: lower case, anything unusual left out."""
    from pydoc_data.topics import topics

    whole = " ".join(" ".join(topics[key] for key in sorted(topics)).lower().split())
    place = {letter: i for i, letter in enumerate(LETTERS)}
    return torch.tensor([place[c] for c in whole[:70000] if c in place])


def windows(length: int, batch: int, last: bool) -> Callable[[int], Iterator[Pair]]:
    """Pieces of text and what follows: after the last character, or after each."""

    def stream(seed: int) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(seed)
        body = text()
        while True:
            at = torch.randint(0, len(body) - length - 1, (batch, 1), generator=generator)
            piece = body[at + torch.arange(length + 1)]
            yield piece[:, :-1], piece[:, -1] if last else piece[:, 1:]

    return stream


NEXT = Task("char-next", "cross_entropy", windows(CONTEXT, 64, last=True))
EACH = Task("char-each", "cross_entropy", windows(LENGTH, 16, last=False))


def mlp(
    depth: int = 1, size: float = 1.0, start: float | None = None, width: int = 96
) -> nn.Sequential:
    """Embeddings of the context side by side, under a tanh net; ``size`` of the embeddings."""
    embedding = nn.Embedding(V, 12)
    nn.init.normal_(embedding.weight, std=size)
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else 12 * CONTEXT, width), nn.Tanh()]
    body = started(
        nn.Sequential(*layers, nn.Linear(width, V)), None if start is None else gain(start)
    )
    return nn.Sequential(embedding, nn.Flatten(), *body)


class Recurrent(nn.Module):
    """Embedding, LSTM, and a head that may be the embedding itself."""

    def __init__(self, size: float = 1.0, tied: bool = False, head: float | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 48)
        nn.init.normal_(self.embedding.weight, std=size)
        self.layer = nn.LSTM(48, 48, batch_first=True)
        self.head = nn.Linear(48, V)
        if tied:
            self.head.weight = self.embedding.weight
        elif head is not None:
            normal(head)(self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(tokens))[0])


def head_bias_only() -> nn.Module:
    """Nothing learns but the head's bias: how common each character is."""
    model = frozen(mlp())
    model[-1].bias.requires_grad_(True)
    return model


def frozen_embedding() -> nn.Module:
    model = mlp()
    return frozen(model, *model[2:])


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = NEXT,
    **more: Any,
) -> Case:
    return Case(f"char-lm/{name}", task, build, recipe, fault, **more)


def windowed() -> list[Case]:
    vanish = ("init-small",)
    return [
        case("mlp-adam", mlp, adam(3e-3, steps=1500)),
        case("mlp-sgd", mlp, sgd(0.03, momentum=0.9, steps=1200), shown=16),
        case("mlp-momentum-high", mlp, sgd(0.3, momentum=0.9, steps=800), "rate-high"),
        case("mlp-sgd-low", mlp, sgd(3e-3), "rate-low"),
        case("mlp-adam-low", mlp, adam(3e-5), "rate-low"),
        case("mlp-sgd-30", mlp, sgd(100.0), "rate-high"),
        case(
            "mlp-small-embedding",
            lambda: mlp(size=0.02),
            sgd(0.1),
            "embedding-scale",
            also=("init-small", "rate-low"),
        ),
        case("mlp-small-embedding-adam", lambda: mlp(size=0.02), adam(5e-3, steps=900)),
        case(
            "mlp-large-embedding",
            lambda: mlp(size=200.0),
            sgd(0.1),
            "embedding-scale",
            also=("saturation",),
        ),
        case("mlp-4-small", lambda: mlp(4, start=0.4), sgd(0.1), "depth-vanishing", also=vanish),
        case(
            "mlp-8-default", lambda: mlp(8), sgd(0.1, momentum=0.9), "depth-vanishing", also=vanish
        ),
        case("mlp-5-adam", lambda: mlp(5, start=1.0), adam(1e-3, steps=600)),
        case("mlp-decay", mlp, adamw(3e-3, weight_decay=10.0), "weight-decay"),
        case("mlp-clip", mlp, sgd(0.3, clip_norm=5e-3), "clip-tight", shown=1),
        case("mlp-bias-only", head_bias_only, adam(2e-2), "frozen"),
        case("mlp-frozen-embedding", frozen_embedding, adamw(3e-3, steps=1000), shown=4),
        case("mlp-adam-late", lambda: mlp(3, start=1.0), adam(0.3, warmup=200), "rate-high"),
    ]


def recurrent() -> list[Case]:
    return [
        case("lstm-adam", Recurrent, adam(5e-3, steps=500), task=EACH),
        case("lstm-tied-normal", lambda: Recurrent(tied=True), adam(3e-3, steps=500), task=EACH),
        case("lstm-tied-small", lambda: Recurrent(0.05, True), adam(5e-3, steps=500), task=EACH),
        case(
            "lstm-tied-10",
            lambda: Recurrent(30.0, True),
            adam(1e-3),
            "embedding-scale",
            task=EACH,
            also=("init-large", "saturation"),
        ),
        case("lstm-sgd", Recurrent, sgd(0.1), "rate-low", task=EACH),
        case(
            "lstm-momentum", Recurrent, sgd(1.0, momentum=0.9, clip_norm=1.0, steps=600), task=EACH
        ),
        case("lstm-rmsprop", Recurrent, rmsprop(3e-3), task=EACH),
        case("lstm-adam-0.3", Recurrent, adam(0.3), "rate-high", task=EACH),
    ]


def cases() -> list[Case]:
    return [*windowed(), *recurrent()]
