"""Plain tanh nets on a two-dimensional spiral."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task, epochs


def spiral() -> tuple[Tensor, Tensor]:
    """1,200 points on three arms."""
    generator = torch.Generator().manual_seed(3)
    arm = torch.arange(1200) % 3
    t = torch.rand(1200, generator=generator)
    angle = 3.5 * t + 2 * math.pi / 3 * arm
    x = torch.stack([angle.cos(), angle.sin()], 1) * (0.3 + t[:, None]) * 1.6
    return x + 0.05 * torch.randn(1200, 2, generator=generator), arm


SPIRAL = Task("spiral", "cross_entropy", epochs(*spiral(), batch=64))


def net(depth: int, width: int, start: Callable[[nn.Linear], object] | None) -> nn.Module:
    sizes = [2, *[width] * depth]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    for module in model.modules() if start else ():
        if isinstance(module, nn.Linear):
            start(module)
            nn.init.zeros_(module.bias)
    return model


def xavier(linear: nn.Linear) -> None:
    nn.init.xavier_normal_(linear.weight)


def scaled(gain: float) -> Callable[[nn.Linear], object]:
    return lambda linear: nn.init.normal_(linear.weight, std=gain / linear.in_features**0.5)


def case(
    name: str,
    depth: int,
    start: Callable[[nn.Linear], object] | None,
    recipe: Recipe,
    fault: str = "",
) -> Case:
    return Case(f"tanh-mlp/{name}", SPIRAL, lambda: net(depth, 64, start), recipe, fault)


def cases() -> list[Case]:
    """Depth, start, and rate."""
    sgd = Recipe("sgd", lr=0.1, momentum=0.9, steps=800)
    adam = Recipe("adam", lr=2e-3, steps=800)
    return [
        case("glorot-3-adam", 3, xavier, adam),
        case("default-3-sgd", 3, None, sgd),
        case("glorot-12-sgd", 12, xavier, sgd),
        case("tiny-12-sgd", 12, scaled(0.3), sgd, "init-small"),
        case("rate-1e-6", 3, xavier, Recipe("sgd", lr=1e-6, steps=800), "rate-low"),
        case("rate-3-adam", 3, xavier, Recipe("adam", lr=3.0, steps=800), "rate-high"),
    ]
