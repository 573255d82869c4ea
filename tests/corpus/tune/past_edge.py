"""Regression on a teacher: rates just below the edge of stability, and just or far beyond it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    HE,
    LECUN,
    Start,
    adam,
    gain,
    lazily,
    mlp,
    pretrained,
    sgd,
    started,
)


@cache
def taught() -> tuple[Tensor, Tensor]:
    """What a small tanh net says of 1,024 points, with a little noise."""
    generator = torch.Generator().manual_seed(21)
    x = torch.randn(1024, 12, generator=generator)
    inner = torch.randn(12, 8, generator=generator) / 12**0.5
    outer = torch.randn(8, 3, generator=generator) / 8**0.5
    y = (1.5 * x @ inner).tanh() @ outer
    return x, 1.5 * y + 0.05 * torch.randn(1024, 3, generator=generator)


@cache
def skewed() -> tuple[Tensor, Tensor]:
    """The same, with inputs that all share a large part: one direction is far steeper."""
    x, y = taught()
    return x + 3.0, y


TEACHER = Task("teacher", "mse", lazily(taught, 32))
SKEWED = Task("teacher-skewed", "mse", lazily(skewed, 32), same_as="teacher")


def net(
    depth: int = 2,
    start: Start | None = HE,
    act: Callable[[], nn.Module] = nn.ReLU,
    width: int = 64,
) -> nn.Module:
    return started(mlp([12, *[width] * depth, 3], act), start)


def linear(depth: int, size: float) -> nn.Module:
    """Linear maps one after another."""
    return net(depth, gain(size), nn.Identity, 24)


def checkpoint() -> nn.Module:
    return pretrained(net(), TEACHER, 3e-3, 300)


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = TEACHER,
    **more: Any,
) -> Case:
    return Case(f"past-edge/{name}", task, build, recipe, fault, **more)


def below() -> list[Case]:
    return [
        case("relu-adam", net, adam(3e-3, steps=800)),
        case("relu-sgd-0.1", net, sgd(0.1), shown=4),
        case("relu-momentum", net, sgd(0.02, momentum=0.9), shown=1),
        case("tanh-sgd-0.3", lambda: net(2, LECUN, nn.Tanh), sgd(0.3, steps=600)),
        case("linear-2", lambda: linear(2, 1.0), sgd(0.05)),
        case("wide-sgd", lambda: net(1, width=512), sgd(0.01, steps=300), shown=2),
        case("skewed-sgd-low", net, sgd(0.01, steps=800), task=SKEWED),
        case("skewed-adam", net, adam(2e-3), task=SKEWED),
        case("steep-clipped", lambda: net(4, gain(2.1)), sgd(0.03, clip_norm=1.0, steps=800)),
        case("checkpoint", checkpoint, sgd(0.02, momentum=0.9), shown=16),
    ]


def beyond() -> list[Case]:
    high = "rate-high"
    large = ("clip-missing", "rate-high", "depth-exploding")
    return [
        case("relu-sgd-3", net, sgd(3.0), high, shown=4),
        case("relu-momentum-late", net, sgd(0.5, momentum=0.9, warmup=350), high),
        case("relu-sgd-late", net, sgd(6.0, warmup=380), high),
        case("tanh-sgd-10", lambda: net(2, LECUN, nn.Tanh), sgd(10.0), high, shown=1),
        case("tanh-sgd-late", lambda: net(2, LECUN, nn.Tanh), sgd(1.8, warmup=380), high),
        case("tanh-momentum-99", lambda: net(2, LECUN, nn.Tanh), sgd(0.5, momentum=0.99), high),
        case("linear-6", lambda: linear(6, 1.5), sgd(0.1), "init-large", also=large),
        case("linear-2-late", lambda: linear(2, 1.0), sgd(0.9, warmup=350), high),
        case("elu-sgd-2", lambda: net(3, act=nn.ELU), sgd(2.0), high, shown=16),
        case("elu-late", lambda: net(3, act=nn.ELU), sgd(0.8, warmup=350), high),
        case("wide-sgd-2", lambda: net(1, width=512), sgd(2.0), high, shown=2),
        case("wide-adam", lambda: net(2, LECUN, nn.Tanh, 256), adam(0.5), high),
        case("skewed-sgd-1", net, sgd(1.0), "input-scale", task=SKEWED, also=(high,)),
        case(
            "skewed-elu",
            lambda: net(act=nn.ELU),
            sgd(1.0),
            high,
            task=SKEWED,
            also=("input-scale",),
        ),
        case(
            "steep",
            lambda: net(4, gain(2.1)),
            sgd(0.03),
            "clip-missing",
            also=("init-large", *large),
        ),
        case(
            "gain5-momentum",
            lambda: net(3, gain(5.0)),
            sgd(0.01, momentum=0.9),
            "init-large",
            also=large,
        ),
        case("checkpoint-sgd-4", checkpoint, sgd(4.0), high),
        case("adam-3", lambda: net(2, LECUN, nn.Tanh), adam(3.0), high, shown=4),
        case("adam-late", lambda: net(3, act=nn.ELU), adam(1.0, warmup=350), high),
    ]


def cases() -> list[Case]:
    return [*below(), *beyond()]
