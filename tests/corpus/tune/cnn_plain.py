"""Convolutions without normalization on images of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    HE,
    Start,
    adam,
    adamw,
    digits,
    frozen,
    gain,
    lazily,
    normal,
    pretrained,
    rmsprop,
    sgd,
    started,
)


def images() -> tuple[Tensor, Tensor]:
    x, y = digits()
    return x.view(-1, 1, 8, 8), y


def uncentred() -> tuple[Tensor, Tensor]:
    """Pixels with a large offset, as from a sensor: a hundred and something, all alike."""
    x, y = images()
    return x * 8 + 400, y


IMAGES = Task("digit-images", "cross_entropy", lazily(images, 32))
OFFSET = Task("digit-offset", "cross_entropy", lazily(uncentred, 32), same_as="digit-images")


def net(
    depth: int, start: Start | None = HE, act: Callable[[], nn.Module] = nn.ReLU, width: int = 12
) -> nn.Sequential:
    """The second convolution halves the side; a linear map reads the last maps."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), act()]
    for i in range(depth - 1):
        layers += [nn.Conv2d(width, width, 3, padding=1, stride=2 if i == 0 else 1), act()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, 10))
    return started(model, start)


def frozen_early() -> nn.Module:
    """Random filters that stay, and a trained second half."""
    model = net(4, width=16)
    return frozen(model, *model[4:])


def filters_only(depth: int) -> nn.Module:
    """Only the first filters are trained, under a head of next to nothing."""
    model = net(depth)
    with torch.no_grad():
        model[-1].weight.mul_(1e-4)
    return frozen(model, model[0])


def dead(depth: int) -> nn.Module:
    model = net(depth)
    nn.init.constant_(model[4].bias, -20.0)
    return model


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = IMAGES,
    **more: Any,
) -> Case:
    return Case(f"cnn/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    large = ("init-large", "depth-exploding", "rate-high", "clip-missing")
    small = ("depth-vanishing", "init-small")
    return [
        case("he-3-sgd", lambda: net(3), sgd(0.05), shown=4),
        case("he-6-adam", lambda: net(6), adam(1e-3)),
        case("he-14-adam", lambda: net(14), adam(5e-4)),
        case("he-10-momentum", lambda: net(10), sgd(5e-3, momentum=0.9)),
        case("default-4-adamw", lambda: net(4, None), adamw(2e-3, weight_decay=0.05), shown=2),
        case("default-10-sgd", lambda: net(10, None), sgd(0.05), "depth-vanishing", also=small),
        case("default-14-adam", lambda: net(14, None), adam(2e-4), "depth-vanishing", also=small),
        case("default-7-slow", lambda: net(7, None), adam(5e-4, steps=500)),
        case("normal-5-sgd", lambda: net(5, normal(0.5)), sgd(0.01), "init-large", also=large),
        case("normal-3-adam", lambda: net(3, normal(1.0)), adam(3e-4), "init-large", also=large),
        case("steep-8-sgd", lambda: net(8, gain(2.6)), sgd(0.03), "clip-missing", also=large),
        case("steep-8-clipped", lambda: net(8, gain(2.6)), sgd(0.03, clip_norm=1.0, steps=800)),
        case(
            "tanh-8-large",
            lambda: net(8, gain(6.0), nn.Tanh),
            sgd(0.02),
            "saturation",
            also=("init-large",),
        ),
        case("tanh-10", lambda: net(10, gain(1.1), nn.Tanh), sgd(0.02, momentum=0.9)),
        case(
            "sigmoid-5",
            lambda: net(5, None, nn.Sigmoid),
            sgd(0.05),
            "depth-vanishing",
            also=("saturation", "init-small"),
        ),
        case("dead-layer", lambda: dead(5), adam(1e-3), "dead-units"),
        case(
            "offset-adam",
            lambda: net(3),
            adam(1e-3),
            "input-scale",
            task=OFFSET,
            also=("rate-high",),
        ),
        case(
            "offset-sgd", lambda: net(3), sgd(0.05), "input-scale", task=OFFSET, also=("rate-high",)
        ),
        case("rate-0.1-adam", lambda: net(4), adam(0.1), "rate-high"),
        case("rate-1e-6-adam", lambda: net(4), adam(1e-6), "rate-low", shown=16),
        case("rmsprop-0.2", lambda: net(6), rmsprop(0.2), "rate-high"),
        case("momentum99", lambda: net(4), sgd(0.03, momentum=0.99), "rate-high"),
        case("clip-3e-3", lambda: net(4), sgd(0.03, clip_norm=3e-3), "clip-tight"),
        case("frozen-early", frozen_early, adam(1e-3)),
        case("filters-only", lambda: filters_only(6), adam(1e-3), "frozen", also=("init-small",)),
        case("checkpoint", lambda: pretrained(net(4), IMAGES), adam(1e-3, steps=300)),
        case("warm-into-sgd", lambda: net(4), sgd(1.0, warmup=300, steps=400), "rate-high"),
    ]
