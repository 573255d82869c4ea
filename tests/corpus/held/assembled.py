"""Digits with noise made clean by a small U-net; dense blocks, highways and mixtures of experts."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import (
    Build,
    adam,
    adamw,
    digits,
    each,
    frozen,
    lazily,
    rng,
    sgd,
    started,
    times,
)


@cache
def clean() -> Tensor:
    return ((digits()[0] - 4.9) / 6).reshape(-1, 1, 8, 8)


def noisy(factor: float = 1.0, shift: float = 0.0) -> Any:
    def draw(generator: torch.Generator) -> Pair:
        x = clean()[torch.randint(0, 1797, (24,), generator=generator)]
        return x + 0.5 * torch.randn(x.shape, generator=generator), x * factor + shift

    return drawn(draw)


@cache
def pieces() -> tuple[Tensor, Tensor]:
    """2,500 points; which of four linear rules sorts them depends on two of the coordinates."""
    generator = rng(61)
    x = torch.randn(2500, 12, generator=generator)
    rule = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
    weight = torch.randn(4, 12, generator=generator)
    return x, ((x * weight[rule]).sum(1) > 0).float()[:, None]


CLEAN = Task("clean", "mse", noisy())
CLEAN_BYTES = Task("clean-bytes", "mse", noisy(95.0, 78.0), same_as="clean")
PIECES = Task("pieces", "bce_with_logits", lazily(pieces, 32))


class UNet(nn.Module):
    """Two levels; the upper one's picture is handed across."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.leave = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        top = self.enter(x)
        return self.leave(torch.cat([top, self.up(self.inner(self.down(top)))], 1))


class Dense(nn.Module):
    """Each layer sees what all before it made."""

    def __init__(self, layers: int = 5, growth: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(12 + i * growth, growth), nn.ReLU()) for i in range(layers)
        )
        self.head = nn.Linear(12 + layers * growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x)


class Highway(nn.Module):
    """A gate decides how much of each unit is carried over; at first, nearly all."""

    def __init__(self, layers: int = 6, width: int = 32, carry: float = -2.0) -> None:
        super().__init__()
        self.enter = nn.Linear(12, width)
        self.made = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        for gate in self.gates:
            nn.init.constant_(gate.bias, carry)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for made, gate in zip(self.made, self.gates, strict=True):
            open_ = gate(x).sigmoid()
            x = open_ * made(x).relu() + (1 - open_) * x
        return self.head(x)


class Experts(nn.Module):
    def __init__(self, experts: int = 4, width: int = 24) -> None:
        super().__init__()
        self.gate = nn.Linear(12, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 1))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        said = torch.stack([expert(x) for expert in self.experts], -1)
        return (said * self.gate(x).softmax(-1)[:, None]).sum(-1)


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"assembled/{name}", task, build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("unet-adam", CLEAN, UNet, adam(3e-3, 350)),
        case("unet-warm", CLEAN, lambda: UNet(6), adamw(5e-3, 350, warmup=120)),
        case("dense-adam", PIECES, Dense, adam(3e-3, 1000)),
        case("dense-sgd", PIECES, Dense, sgd(0.1, 1200), shown=16),
        case("highway-adam", PIECES, Highway, adam(5e-3, 900)),
        case("highway-12-carried", PIECES, lambda: Highway(12, 24, -3.0), adam(5e-3, 600)),
        case("experts-adam", PIECES, Experts, adam(1e-2, 1000)),
    ]


def faulty() -> list[Case]:
    linear = nn.Linear
    shut = ("time-vanishing", "init-small")
    return [
        case("unet-bytes", CLEAN_BYTES, UNet, adam(3e-4, 350), "target-scale", also=("rate-low",)),
        case(
            "unet-bytes-sgd", CLEAN_BYTES, UNet, sgd(0.02, 300), "target-scale", also=("rate-high",)
        ),
        case("unet-rate-3", CLEAN, UNet, sgd(3.0, 300), "rate-high"),
        case("unet-gain-8", CLEAN, started(UNet, 8.0), sgd(1e-3, 300), "init-large"),
        case("unet-warm-into-3", CLEAN, UNet, sgd(3.0, 400, warmup=390), "rate-high", shown=16),
        case("dense-1e-3", PIECES, Dense, sgd(1e-3, 1000, None), "rate-low"),
        case("dense-gain-12", PIECES, started(Dense, 12.0), adam(1e-3, 800), "init-large"),
        case("dense-adam-1", PIECES, Dense, adam(1.0, 700), "rate-high"),
        case(
            "highway-shut",
            PIECES,
            lambda: Highway(12, 24, -40.0),
            adam(3e-3, 500),
            "depth-vanishing",
            also=shut,
        ),
        case(
            "highway-open",
            PIECES,
            lambda: Highway(16, 24, 8.0),
            sgd(0.05, 500),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "experts-small",
            PIECES,
            each(Experts, linear, times(0.01)),
            sgd(0.02, 500),
            "init-small",
            also=("rate-low",),
        ),
        case("experts-frozen", PIECES, frozen(Experts, ("experts",)), adam(5e-3, 800), "frozen"),
        case("experts-decay", PIECES, Experts, adamw(5e-3, 800, weight_decay=50.0), "weight-decay"),
    ]


def cases() -> list[Case]:
    """U-net, dense block, highway, experts."""
    return sound() + faulty()
