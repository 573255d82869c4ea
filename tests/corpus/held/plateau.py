"""Losses that are flat first: parities of a few bits, and deep linear nets near their saddle."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, adam, adamw, frozen, lazily, mlp, rng, sgd, started


def parity(bits: int) -> Task:
    """The product of some of ten signs."""

    def draw(generator: torch.Generator) -> Pair:
        x = torch.randint(0, 2, (64, 10), generator=generator).float() * 2 - 1
        return x, (x[:, :bits].prod(1, keepdim=True) + 1) / 2

    return Task(f"parity-{bits}", "bce_with_logits", drawn(draw), same_as="parity-2")


@cache
def linear_map() -> tuple[Tensor, Tensor]:
    """2,000 points, and a map of rank three of them, with noise."""
    generator = rng(90)
    x = torch.randn(2000, 12, generator=generator)
    map_ = torch.randn(12, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
    return x, x @ map_ / 6 + 0.1 * torch.randn(2000, 8, generator=generator)


MAP = Task("linear-map", "mse", lazily(linear_map, 32))


def relu(depth: int = 2, width: int = 64) -> Build:
    return lambda: mlp([10, *[width] * depth, 1], nn.ReLU)


def linear(depth: int, gain: float) -> Build:
    return started(lambda: mlp([12, *[24] * depth, 8], nn.Identity), gain)


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"plateau/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Parities and linear maps."""
    first = ("0", "2")
    return [
        case("two-bits-adam", parity(2), relu(), adam(1e-3, 600)),
        case("three-bits-sgd", parity(3), relu(), sgd(0.1, 900), shown=4),
        case("three-bits-adam", parity(3), relu(), adam(2e-3, 800), shown=16),
        case("three-bits-three", parity(3), relu(3), adamw(1e-3, 900), shown=2),
        case("four-bits-wide", parity(4), relu(2, 128), adam(3e-3, 900)),
        case("linear-4-sgd", MAP, linear(4, 0.6), sgd(0.03, 900), shown=16),
        case("linear-4-adam", MAP, linear(4, 0.4), adam(1e-3, 700), shown=4),
        case("linear-10-even", MAP, linear(10, 1.0), sgd(3e-3, 800), shown=2),
        case("linear-3-warm", MAP, linear(3, 0.7), adam(2e-3, 800, warmup=300)),
        case("three-bits-0.01", parity(3), relu(), sgd(2e-3, 700), "rate-low", shown=16),
        case("three-bits-fixed", parity(3), frozen(relu(2, 16), first), adam(3e-3, 700), "frozen"),
        case(
            "three-bits-decay", parity(3), relu(), adam(2e-3, 800, weight_decay=0.2), "weight-decay"
        ),
        case("three-bits-small", parity(3), started(relu(3), 0.1), sgd(0.1, 700), "init-small"),
        case(
            "linear-8-small",
            MAP,
            linear(8, 0.15),
            adam(3e-5, 700),
            "init-small",
            also=("rate-low",),
        ),
        case("linear-4-sgd-0.1", MAP, linear(4, 0.1), sgd(0.02, 800), "init-small", shown=4),
        case(
            "linear-12-1.6",
            MAP,
            linear(12, 1.6),
            sgd(1e-3, 600),
            "depth-exploding",
            also=("init-large",),
        ),
        case(
            "linear-4-late", MAP, linear(4, 0.8), sgd(1.5, 800, warmup=800), "rate-high", shown=16
        ),
        case("linear-3-edge", MAP, linear(3, 1.0), sgd(1.0, 700, None), "rate-high", shown=2),
    ]
