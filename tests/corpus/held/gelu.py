"""GELU and SiLU nets that tell four shells of a ball in ten dimensions apart."""

from __future__ import annotations

from collections.abc import Callable
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
    blank,
    last,
    lazily,
    mlp,
    rmsprop,
    rng,
    sgd,
    started,
)


@cache
def shells(factor: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """3,000 points; the class is the quarter of the radius's distribution."""
    x = torch.randn(3000, 10, generator=rng(8))
    radius = x.norm(dim=1)
    edges = radius.quantile(torch.tensor([0.25, 0.5, 0.75]))
    return x * factor + shift, torch.bucketize(radius, edges)


SHELLS = Task("shells", "cross_entropy", lazily(shells, 32))
FAR = Task("shells-far", "cross_entropy", lazily(lambda: shells(2e4), 32), same_as="shells")


def net(depth: int, act: Callable[[], nn.Module] = nn.GELU, width: int = 40) -> Build:
    return lambda: mlp([10, *[width] * depth, 4], act)


def zero_branches(blocks: int) -> Build:
    """Residual blocks whose second layer starts at zero: each is the identity at first."""

    def made() -> nn.Module:
        body = []
        for _ in range(blocks):
            branch = nn.Sequential(nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, 40))
            blank(branch[2])  # type: ignore[arg-type]
            body.append(Residual(branch))
        return nn.Sequential(nn.Linear(10, 40), *body, nn.LayerNorm(40), nn.Linear(40, 4))

    return made


def constant(linear: Any) -> None:
    nn.init.constant_(linear.weight, 0.05)
    nn.init.zeros_(linear.bias)


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"gelu/{name}", more.pop("task", SHELLS), build, recipe, fault, **more)


def alike() -> nn.Module:
    """All weights are the same number: all units of a layer stay the same unit."""
    model = mlp([10, 40, 40, 4], nn.GELU)
    for module in model:
        if isinstance(module, nn.Linear):
            constant(module)
    return model


def sound() -> list[Case]:
    return [
        case("4-default-adam", net(4), adam(2e-3, 800)),
        case("4-silu-momentum", net(4, nn.SiLU), sgd(0.05, 1200), shown=16),
        case("8-scaled-adamw", started(net(8), 1.5), adamw(1e-3, 800, weight_decay=0.01)),
        case("16-scaled-warm", started(net(16), 1.5), adam(5e-4, 1000, warmup=100)),
        case("zero-branches", zero_branches(5), adam(1e-3, 900), shown=4),
        case("zero-head", last(net(3), blank), adam(2e-3, 800), shown=2),
        case("6-long-warm-up", started(net(6), 1.5), adam(2e-3, 1000, warmup=400)),
    ]


def faulty() -> list[Case]:
    shrunk = ("init-small",)
    return [
        case("14-default-sgd", net(14), sgd(0.05, 1000), "depth-vanishing", also=shrunk),
        case("24-silu-adam", net(24, nn.SiLU), adam(3e-4, 500), "depth-vanishing", also=shrunk),
        case("8-large-sgd", started(net(8), 6.0), sgd(0.01, 800), "init-large"),
        case("3-large-adam", started(net(3), 3.0), adam(2e-3, 900), "init-large"),
        case("alike", alike, adam(2e-3, 800), "init-symmetric"),
        case("4-rate-0.3", started(net(4), 1.5), adam(0.3, 700), "rate-high"),
        case("4-rmsprop-0.1", net(4), rmsprop(0.1, 700), "rate-high"),
        case("4-sgd-1e-4", net(4), sgd(1e-4, 1000, None), "rate-low", shown=16),
        case("5-far-sgd", started(net(5), 1.5), sgd(0.02, 800), "input-scale", task=FAR),
        case("6-warm-into-2", started(net(6), 1.5), sgd(2.0, 800, warmup=400), "rate-high"),
        case("4-clip-1e-3", net(4), sgd(0.05, 900, clip_norm=1e-3), "clip-tight"),
    ]


def cases() -> list[Case]:
    """Depth, start, and rate."""
    return sound() + faulty()
