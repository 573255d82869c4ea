"""Plain tanh nets on a two-dimensional spiral."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task, epochs
from tests.corpus.tune._common import (
    Start,
    adam,
    adamw,
    frozen,
    gain,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
    zeroed,
)


def spiral() -> tuple[Tensor, Tensor]:
    """1,200 points on three arms."""
    generator = torch.Generator().manual_seed(3)
    arm = torch.arange(1200) % 3
    t = torch.rand(1200, generator=generator)
    angle = 3.5 * t + 2 * math.pi / 3 * arm
    x = torch.stack([angle.cos(), angle.sin()], 1) * (0.3 + t[:, None]) * 1.6
    return x + 0.05 * torch.randn(1200, 2, generator=generator), arm


SPIRAL = Task("spiral", "cross_entropy", epochs(*spiral(), batch=64))


def net(depth: int, width: int = 64, start: Start | None = None) -> nn.Sequential:
    return started(mlp([2, *[width] * depth, 3], nn.Tanh), start)


def xavier(weight: Tensor) -> None:
    nn.init.xavier_normal_(weight)


def zero_head(depth: int) -> nn.Module:
    model = net(depth, start=xavier)
    return zeroed(model, model[-1])


def only(depth: int, part: int, width: int, size: float) -> nn.Module:
    """A net of which one linear map is trained."""
    model = net(depth, width, gain(size))
    return frozen(model, model[part])


def only_last_bias(depth: int) -> nn.Module:
    model = frozen(net(depth, start=xavier))
    model[-1].bias.requires_grad_(True)
    return model


def case(
    name: str, build: Callable[[], nn.Module], recipe: Recipe, fault: str = "", **more: Any
) -> Case:
    return Case(f"tanh-mlp/{name}", SPIRAL, build, recipe, fault, **more)


def starts() -> list[Case]:
    """Depth and start."""
    momentum = sgd(0.1, momentum=0.9, steps=600)
    return [
        case("glorot-3-adam", lambda: net(3, start=xavier), adam(2e-3, steps=800)),
        case("default-3-momentum", lambda: net(3), momentum, shown=4),
        case("default-5-sgd", lambda: net(5), sgd(0.3, steps=1000)),
        case(
            "glorot-12-momentum", lambda: net(12, start=xavier), sgd(0.01, momentum=0.9, steps=600)
        ),
        case("glorot-12-fast", lambda: net(12, start=xavier), momentum, "rate-high"),
        case("glorot-20-adam", lambda: net(20, start=xavier), adam(5e-4, steps=500)),
        case(
            "default-12-sgd",
            lambda: net(12),
            sgd(0.1),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "default-16-sgd",
            lambda: net(16),
            sgd(0.05, steps=500),
            "depth-vanishing",
            also=("init-small",),
        ),
        case("default-8-slow", lambda: net(8), sgd(0.3, steps=1200)),
        case(
            "default-20-adam",
            lambda: net(20),
            adam(1e-3, steps=500),
            "depth-vanishing",
            shown=16,
            also=("init-small",),
        ),
        case(
            "tiny-12-momentum",
            lambda: net(12, start=gain(0.3)),
            momentum,
            "init-small",
            also=("depth-vanishing",),
        ),
        case("tiny-3-adam", lambda: net(3, start=gain(0.01)), adam(3e-3, steps=500), "init-small"),
        case(
            "large-5-sgd",
            lambda: net(5, start=gain(8.0)),
            sgd(0.1),
            "init-large",
            also=("saturation",),
        ),
        case(
            "large-12-adam",
            lambda: net(12, start=gain(4.0)),
            adam(1e-3),
            "init-large",
            also=("saturation",),
        ),
        case(
            "constant-4-adam",
            lambda: net(4, start=lambda w: nn.init.constant_(w, 0.05)),
            adam(3e-3),
            "init-symmetric",
        ),
        case("zero-head-4", lambda: zero_head(4), adam(2e-3), shown=2),
        case("random-features", lambda: only(2, -1, 512, 2.5), adam(2e-2, steps=600)),
        case("only-first-trained", lambda: only(2, 0, 256, 1.5), adam(5e-3, steps=600)),
        case("only-last-bias", lambda: only_last_bias(3), adam(1e-2), "frozen"),
        case(
            "checkpoint-3",
            lambda: pretrained(net(3, start=xavier), SPIRAL, 3e-3),
            adam(1e-3),
            shown=4,
        ),
    ]


def recipes() -> list[Case]:
    """Rate, optimizer, clipping and decay, for a net that is sound in itself."""

    def plain() -> nn.Module:
        return net(3, start=xavier)

    def deep() -> nn.Module:
        return net(8, start=xavier)

    return [
        case("sgd-1e-6", plain, sgd(1e-6), "rate-low"),
        case("sgd-1e-3", plain, sgd(1e-3, steps=600), "rate-low"),
        case("sgd-1", plain, sgd(1.0, steps=500)),
        case("sgd-100", plain, sgd(100.0), "rate-high"),
        case("momentum99-1e-2", plain, sgd(0.01, momentum=0.99, steps=600)),
        case("momentum99-1", plain, sgd(1.0, momentum=0.99), "rate-high", shown=4),
        case("adam-1e-5", plain, adam(1e-5, steps=500), "rate-low"),
        case("adam-3", plain, adam(3.0), "rate-high"),
        case("adam-5e-2-deep", deep, adam(5e-2), "rate-high"),
        case("adam-1e-2-deep-warm", deep, adam(5e-3, warmup=100, steps=500)),
        case("warm-into-1", deep, adam(1.0, warmup=300, steps=600), "rate-high"),
        case("rmsprop-1e-3", plain, rmsprop(1e-3), shown=1),
        case("clip-1e-3", plain, sgd(0.1, clip_norm=1e-3), "clip-tight"),
        case("clip-1e-1", plain, sgd(1.0, clip_norm=0.1, steps=700)),
        case("decay-sgd", deep, sgd(0.1, momentum=0.9, weight_decay=0.1), "weight-decay"),
        case("decay-adamw", plain, adamw(1e-2, weight_decay=10.0), "weight-decay"),
        case("decay-adamw-mild", plain, adamw(3e-3, weight_decay=0.1)),
    ]


def cases() -> list[Case]:
    return [*starts(), *recipes()]
