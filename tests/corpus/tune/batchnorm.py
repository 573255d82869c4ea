"""Deep plain nets with batch normalization: sound up to a depth, then not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    DIGITS,
    HE,
    LECUN,
    Start,
    adam,
    adamw,
    digits,
    frozen,
    lazily,
    normal,
    pretrained,
    sgd,
    started,
)

SMALL = replace(DIGITS, stream=lazily(digits, 16))
LARGE = replace(DIGITS, stream=lazily(digits, 64))


def net(
    depth: int,
    start: Start | None = HE,
    act: Callable[[], nn.Module] = nn.ReLU,
    width: int = 32,
    scale: float = 1.0,
) -> nn.Sequential:
    """``scale`` is where the normalizations' own weights start."""
    layers: list[nn.Module] = []
    for i in range(depth):
        norm = nn.BatchNorm1d(width)
        nn.init.constant_(norm.weight, scale)
        layers += [nn.Linear(width if i else 64, width, bias=False), norm, act()]
    return started(nn.Sequential(*layers, nn.Linear(width, 10)), start)


def cnn(depth: int, width: int = 8) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for i in range(depth):
        layers += [
            nn.Conv2d(width if i else 1, width, 3, padding=1, stride=2 if i == 1 else 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return started(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, 10)), HE)


def norms_only(depth: int, width: int) -> nn.Module:
    """Random maps that stay; the normalizations and the head are trained."""
    model = net(depth, width=width)
    return frozen(model, *(m for m in model if isinstance(m, nn.BatchNorm1d)), model[-1])


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = DIGITS,
    **more: Any,
) -> Case:
    return Case(f"batchnorm/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Gradients of plain nets with batch normalization grow by some 1.2 from layer to layer."""
    deep = ("depth-exploding", "clip-missing", "rate-high")
    return [
        case("4-sgd", lambda: net(4), sgd(0.1)),
        case("8-adam", lambda: net(8), adam(2e-3), shown=4),
        case("12-momentum", lambda: net(12), sgd(0.01, momentum=0.9), task=LARGE),
        case("16-adam", lambda: net(16, width=64), adam(1e-3, steps=500), task=LARGE, shown=16),
        case("50-sgd", lambda: net(50), sgd(0.1, steps=300), "depth-exploding", also=deep),
        case("50-adam", lambda: net(50), adam(1e-3, steps=300), "depth-exploding", also=deep),
        case(
            "80-momentum",
            lambda: net(80, width=24),
            sgd(0.01, momentum=0.9, steps=200),
            "depth-exploding",
            also=deep,
        ),
        case(
            "30-small-batch", lambda: net(30), sgd(0.05), "depth-exploding", task=SMALL, also=deep
        ),
        case("normal-6", lambda: net(6, normal(1.0)), sgd(0.1, momentum=0.9)),
        case("normal-4-adam", lambda: net(4, normal(10.0)), adam(1e-3), "init-large"),
        case("tanh-10", lambda: net(10, LECUN, nn.Tanh), adam(1e-3), task=LARGE),
        case("default-6-rate-10", lambda: net(6, None), sgd(30.0), "rate-high"),
        case("default-6-adam-1e-6", lambda: net(6, None), adam(1e-6), "rate-low", shown=2),
        case(
            "scale-1e-3",
            lambda: net(6, scale=1e-3),
            sgd(0.05),
            "init-small",
            also=("depth-vanishing",),
        ),
        case("scale-0.1", lambda: net(3, scale=0.1), adam(5e-3)),
        case("clip", lambda: net(6), sgd(0.1, clip_norm=2e-3), "clip-tight"),
        case("decay-adamw", lambda: net(6), adamw(5e-3, weight_decay=30.0), "weight-decay"),
        case("norms-only", lambda: norms_only(3, 96), adam(1e-2, steps=500)),
        case("cnn-5-adam", lambda: cnn(5), adam(2e-3)),
        case("cnn-10-sgd", lambda: cnn(10), sgd(0.03, steps=300)),
        case("cnn-6-adam-1", lambda: cnn(6), adam(1.0, steps=300), "rate-high"),
        case("checkpoint", lambda: pretrained(net(5), DIGITS), sgd(0.02, momentum=0.9), shown=16),
    ]
