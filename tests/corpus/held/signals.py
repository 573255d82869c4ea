"""One-dimensional convolutions on made-up pulses, autoencoders of them, and nets of two inputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import (
    Build,
    Residual,
    adam,
    adamw,
    each,
    frozen,
    pretrained,
    rmsprop,
    sgd,
    started,
    times,
)

LENGTH = 32


def pulses(generator: torch.Generator, count: int = 32) -> Pair:
    """A sine, a square, a saw tooth or a chirp, of any phase, and noise."""
    kind = torch.randint(0, 4, (count,), generator=generator)
    t = torch.linspace(0, 1, LENGTH)
    phase = torch.rand(count, 1, generator=generator)
    turn = 3 * t + phase
    wave = torch.stack(
        [
            torch.sin(2 * math.pi * turn),
            torch.sign(torch.sin(2 * math.pi * turn)),
            2 * (turn % 1) - 1,
            torch.sin(2 * math.pi * (5 * t**2 + phase)),
        ]
    )[kind, torch.arange(count)]
    noise = 0.1 * torch.randn(count, LENGTH, generator=generator)
    return (wave + noise)[:, None], kind


def named(generator: torch.Generator) -> Pair:
    return pulses(generator)


def volts(generator: torch.Generator) -> Pair:
    x, kind = pulses(generator)
    return x * 2e4 + 5e4, kind


def itself(generator: torch.Generator) -> Pair:
    x, _ = pulses(generator)
    return x, x


def millivolts(generator: torch.Generator) -> Pair:
    x, _ = pulses(generator)
    return x, x * 100 + 300


def asked(generator: torch.Generator) -> Pair:
    """Of two pulses: what is the distance of the kinds, and how fast does a third number grow?"""
    x, a = pulses(generator)
    z, b = pulses(generator)
    weight = torch.randn(32, 1, generator=generator)
    return (x[:, 0], z[:, 0], weight), weight * (a == b).float()[:, None] + 0.5 * weight


KINDS = Task("kinds", "cross_entropy", drawn(named))
KINDS_VOLTS = Task("kinds-volts", "cross_entropy", drawn(volts), same_as="kinds")
COPY = Task("copy", "mse", drawn(itself))
COPY_VOLTS = Task("copy-volts", "mse", drawn(millivolts), same_as="copy")
GATE = Task("gate", "mse", drawn(asked))


def conv(depth: int, width: int = 12, norm: bool = False) -> Build:
    def made() -> nn.Module:
        layers: list[nn.Module] = []
        for i in range(depth):
            layers.append(nn.Conv1d(width if i else 1, width, 5, padding=2))
            layers += [nn.BatchNorm1d(width)] if norm else []
            layers.append(nn.ReLU())
        tail = [nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4 * width, 4)]
        return nn.Sequential(*layers, *tail)

    return made


def coder(code: int = 6, width: int = 10) -> Build:
    """Down to a short code and back up."""

    def made() -> nn.Module:
        down = [
            nn.Conv1d(1, width, 4, 2, 1),
            nn.ReLU(),
            nn.Conv1d(width, width, 4, 2, 1),
            nn.ReLU(),
        ]
        inner = [nn.Flatten(), nn.Linear(8 * width, code), nn.Linear(code, 8 * width), nn.ReLU()]
        up = [
            nn.ConvTranspose1d(width, width, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose1d(width, 1, 4, 2, 1),
        ]
        return nn.Sequential(*down, *inner, nn.Unflatten(1, (width, 8)), *up)

    return made


class Three(nn.Module):
    """Two pulses and a number: a tower each for the pulses, then all together."""

    def __init__(self, width: int = 24, inner: int = 1) -> None:
        super().__init__()
        tower = [nn.Linear(LENGTH, width), nn.ReLU()]
        self.left = nn.Sequential(*tower)
        self.right = nn.Sequential(nn.Linear(LENGTH, width), nn.ReLU())
        body = [Residual(nn.Sequential(nn.Linear(width, width), nn.ReLU())) for _ in range(inner)]
        self.body = nn.Sequential(nn.Linear(2 * width + 1, width), nn.ReLU(), *body)
        self.head = nn.Linear(width, 1)

    def forward(self, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        return self.head(self.body(torch.cat([self.left(a), self.right(b), weight], 1)))


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"signals/{name}", task, build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("conv-3-adam", KINDS, conv(3), adam(3e-3, 400)),
        case("conv-3-sgd", KINDS, conv(3), sgd(0.03, 600), shown=4),
        case("conv-8-he", KINDS, started(conv(8, 8), 1.4), adam(1e-3, 350)),
        case("conv-5-norm", KINDS, conv(5, 8, norm=True), sgd(0.1, 350), shown=16),
        case("coder-adam", COPY, coder(), adam(5e-3, 600)),
        case("coder-rmsprop", COPY, coder(), rmsprop(2e-3, 600), shown=2),
        case("coder-warm", COPY, coder(), adamw(5e-3, 600, warmup=200)),
        case("coder-gone-on-with", COPY, pretrained(coder(), COPY, 400), adam(1e-3, 300)),
        case("three-adam", GATE, Three, adam(3e-3, 700)),
        case("three-sgd", GATE, lambda: Three(24, 3), sgd(0.02, 800)),
    ]


def faulty() -> list[Case]:
    towers = ("left", "right", "body")
    return [
        case("conv-3-volts", KINDS_VOLTS, conv(3), sgd(0.02, 400), "input-scale"),
        case(
            "conv-14-default",
            KINDS,
            conv(14, 8),
            sgd(0.03, 300),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "conv-8-large",
            KINDS,
            started(conv(8, 8), 4.0),
            adam(1e-3, 300),
            "init-large",
            also=("depth-exploding",),
        ),
        case("conv-3-rate-3", KINDS, conv(3), sgd(3.0, 400), "rate-high"),
        case(
            "coder-volts", COPY_VOLTS, coder(), adam(1e-3, 500), "target-scale", also=("rate-low",)
        ),
        case(
            "coder-volts-sgd",
            COPY_VOLTS,
            coder(),
            sgd(0.01, 500),
            "target-scale",
            also=("rate-high",),
        ),
        case("coder-sgd-1e-3", COPY, coder(), sgd(1e-3, 500), "rate-low"),
        case(
            "coder-small",
            COPY,
            each(coder(), (nn.Conv1d, nn.Linear), times(0.1)),
            sgd(0.05, 500),
            "init-small",
        ),
        case(
            "three-frozen",
            GATE,
            frozen(each(Three, nn.Linear, times(0.02)), towers),
            sgd(0.02, 600),
            "frozen",
            also=("init-small",),
        ),
        case("three-decay", GATE, Three, adam(3e-3, 600, weight_decay=3.0), "weight-decay"),
        case("three-warm-into-5", GATE, Three, sgd(5.0, 800, warmup=600), "rate-high"),
    ]


def cases() -> list[Case]:
    """Pulses: named, copied, compared."""
    return sound() + faulty()
