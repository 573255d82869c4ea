"""Plain deep nets with layer norm that fit what another net makes of its inputs."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    Residual,
    adam,
    adamw,
    each,
    frozen,
    lazily,
    mlp,
    pretrained,
    rng,
    sgd,
    started,
    times,
)


@cache
def taught(factor: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """4,000 points in 16 dimensions and three smooth functions of them, standardised or not."""
    generator = rng(21)
    x = torch.randn(4000, 16, generator=generator)
    inner = torch.randn(16, 24, generator=generator) * 0.35
    outer = torch.randn(24, 3, generator=generator)
    y = torch.sin(x @ inner) @ outer
    y = (y - y.mean(0)) / y.std(0)
    return x, y * factor + shift


def task(name: str, factor: float = 1.0, shift: float = 0.0, same_as: str = "") -> Task:
    return Task(name, "mse", lazily(lambda: taught(factor, shift), 32), same_as=same_as)


TAUGHT = task("taught")
TENS = task("taught-tens", 20.0, 60.0, "taught")
THOUSANDS = task("taught-thousands", 900.0, 5000.0, "taught")
TINY = task("taught-tiny", 1e-4, 0.0, "taught")


def net(depth: int, width: int = 48) -> Build:
    return lambda: mlp([16, *[width] * depth, 3], nn.ReLU, nn.LayerNorm)


def plain(depth: int, width: int = 48) -> Build:
    return lambda: mlp([16, *[width] * depth, 3], nn.ReLU)


def tower(blocks: int) -> Build:
    def made() -> nn.Module:
        body = [
            Residual(nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 48), nn.ReLU()))
            for _ in range(blocks)
        ]
        return nn.Sequential(nn.Linear(16, 48), *body, nn.LayerNorm(48), nn.Linear(48, 3))

    return made


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"normed-mlp/{name}", more.pop("task", TAUGHT), build, recipe, fault, **more)


def sound() -> list[Case]:
    weights = each(net(6), nn.Linear, times(20.0))
    return [
        case("2-adam", net(2), adam(3e-3, 900)),
        case("6-adam", net(6), adam(2e-3, 900)),
        case("6-sgd", net(6), sgd(0.05, 900), shown=4),
        case("12-adamw", net(12, 40), adamw(2e-3, 800, weight_decay=0.05, warmup=50)),
        case("tower-8", tower(8), adam(1e-3, 700)),
        case("tower-8-gone-on-with", pretrained(tower(8), TAUGHT, 250), adam(3e-4, 500), shown=2),
        case("6-weights-20", weights, adam(2e-3, 1300, clip_norm=1.0)),
        case("plain-4-he", started(plain(4), 1.4), adam(2e-3, 900)),
    ]


def faulty() -> list[Case]:
    frozen_all = tuple(f"{i}." for i in range(18))
    return [
        case("6-thousands", net(6), adam(1e-3, 900), "target-scale", task=THOUSANDS),
        case(
            "4-tens-sgd", plain(4), sgd(0.05, 900), "target-scale", task=TENS, also=("rate-high",)
        ),
        case("6-tiny", net(6), sgd(0.05, 900), "target-scale", task=TINY),
        case("40-adam-2e-2", net(40, 24), adam(2e-2, 400), "rate-high", also=("depth-vanishing",)),
        case("6-clip-5e-3", net(6), sgd(0.02, 900, clip_norm=5e-3), "clip-tight"),
        case("6-head-only", frozen(net(6), frozen_all), adam(2e-3, 800), "frozen"),
        case("6-adamw-decay", net(6), adamw(3e-3, 800, weight_decay=50.0), "weight-decay"),
        case("4-sgd-decay", net(4), sgd(0.03, 800, weight_decay=0.2), "weight-decay"),
        case("tower-8-rate-5", tower(8), sgd(5.0, 700, None), "rate-high", shown=16),
        case("plain-4-gain-9", started(plain(4), 9.0), sgd(1e-3, 700), "init-large"),
        case("plain-20-gain-2.5", started(plain(20), 2.5), adam(1e-3, 600), "depth-exploding"),
        case("tower-8-1e-6", tower(8), adamw(1e-6, 700), "rate-low"),
    ]


def cases() -> list[Case]:
    """Depth, scale of the targets, start, and rate."""
    return sound() + faulty()
