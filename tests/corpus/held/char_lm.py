"""The next character of this package's licence, by a GRU or from a window of eight."""

from __future__ import annotations

from functools import cache
from pathlib import Path
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
    last,
    lazily,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
    times,
)

SIGNS = 30
LICENSE = Path(__file__).parents[3] / "LICENSE"  # the same text under every Python


@cache
def text() -> Tensor:
    """Some ten thousand characters: letters, space, stop, and a sign for the rest."""
    joined = " ".join(LICENSE.read_text(encoding="utf-8").lower().split())
    codes = [ord(c) - 97 if "a" <= c <= "z" else 26 + " .".find(c) + 1 for c in joined]
    return torch.tensor(codes)


@cache
def windows() -> tuple[Tensor, Tensor]:
    cut = text().unfold(0, 9, 1)
    return cut[:, :8], cut[:, 8]


@cache
def lines() -> tuple[Tensor, Tensor]:
    cut = text().unfold(0, 25, 3)
    return cut[:, :-1], cut[:, 1:]


WINDOWS = Task("chars-window", "cross_entropy", lazily(windows, 64))
LINES = Task("chars-line", "cross_entropy", lazily(lines, 24))


def window_net(depth: int, act: Any = nn.Tanh, width: int = 64) -> Build:
    def made() -> nn.Module:
        body = mlp([64, *[width] * depth, SIGNS], act)
        return nn.Sequential(nn.Embedding(SIGNS, 8), nn.Flatten(), body)

    return made


def gru(hidden: int = 48, embed: int = 16) -> Build:
    def made() -> nn.Module:
        rnn = nn.GRU(embed, hidden, batch_first=True)
        return Recurrent(nn.Embedding(SIGNS, embed), rnn, nn.Linear(hidden, SIGNS), whole=True)

    return made


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"chars/{name}", more.pop("task", WINDOWS), build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("window-2-adam", window_net(2), adam(3e-3, 1000)),
        case("window-1-sgd", window_net(1, nn.ReLU), sgd(0.1, 1200)),
        case("window-2-rmsprop", window_net(2, nn.ReLU), rmsprop(2e-3, 900), shown=4),
        case(
            "window-gone-on-with", pretrained(window_net(2), WINDOWS, 500), sgd(0.02, 600), shown=2
        ),
        case("window-heavy-head", last(window_net(2), times(12.0)), adam(3e-3, 1000)),
        case("gru-adam", gru(), adam(1e-2, 350), task=LINES),
        case("gru-sgd", gru(), sgd(1.0, 400, clip_norm=1.0), task=LINES),
    ]


def faulty() -> list[Case]:
    shrunk = ("init-small",)
    gated = frozen(each(gru(), nn.GRU, lambda rnn: rnn.weight_ih_l0.mul_(0.01)), ("rnn", "front"))
    return [
        case(
            "window-10-sigmoid",
            window_net(10, nn.Sigmoid),
            adam(1e-3, 700),
            "depth-vanishing",
            also=shrunk,
        ),
        case(
            "window-10-small",
            started(window_net(10), 0.4),
            sgd(0.05, 800),
            "init-small",
            also=("depth-vanishing",),
        ),
        case("window-2-adam-0.5", window_net(2), adam(0.5, 700), "rate-high"),
        case("window-relu-sgd-3", window_net(2, nn.ReLU), sgd(3.0, 700), "rate-high"),
        case("window-decay", window_net(2), adam(3e-3, 800, weight_decay=0.1), "weight-decay"),
        case(
            "window-words-1e-4",
            each(window_net(4), nn.Embedding, times(1e-4)),
            sgd(0.03, 800),
            "embedding-scale",
        ),
        case("gru-frozen", gated, adam(5e-3, 300), "frozen", task=LINES, also=shrunk),
    ]


def cases() -> list[Case]:
    """Windows and lines."""
    return sound() + faulty()
