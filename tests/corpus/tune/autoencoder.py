"""Autoencoders of digits through a narrow middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    HE,
    LECUN,
    Start,
    adam,
    adamw,
    digits,
    frozen,
    gain,
    lazily,
    mlp,
    normal,
    pretrained,
    rmsprop,
    sgd,
    started,
)


def unit() -> tuple[Tensor, Tensor]:
    """Pixels between 0 and 1, to be given back."""
    x = (digits()[0] + 1) / 2
    return x, x


def pixels() -> tuple[Tensor, Tensor]:
    """Pixels as files hold them, to be given back."""
    x = 255 * unit()[0]
    return x, x


def bright() -> tuple[Tensor, Tensor]:
    """Pixels as files hold them, between 0 and 1 when given back."""
    x = unit()[0]
    return 255 * x, x


UNIT = Task("auto-unit", "mse", lazily(unit, 32))
CROSS = Task("auto-cross", "bce_with_logits", lazily(unit, 32))
PIXELS = Task("auto-pixels", "mse", lazily(pixels, 32), same_as="auto-unit")
BRIGHT = Task("auto-bright", "mse", lazily(bright, 32), same_as="auto-unit")
SIZES = (64, 48, 16, 48, 64)
DEEP = (64, 48, 48, 32, 16, 16, 8, 16, 16, 32, 48, 48, 64)


def net(
    sizes: tuple[int, ...] = SIZES,
    act: Callable[[], nn.Module] = nn.ReLU,
    start: Start | None = None,
    last: nn.Module | None = None,
) -> nn.Sequential:
    model = started(mlp(sizes, act), start)
    return nn.Sequential(*model, last) if last is not None else model


def squashed(bias: float) -> nn.Module:
    """A sigmoid output that starts far out on its flat part."""
    model = net(last=nn.Sigmoid())
    nn.init.constant_(model[-2].bias, bias)
    return model


def decoder_only() -> nn.Module:
    """Random codes that stay, and a trained decoder."""
    model = net((64, 64, 48, 64), start=HE)
    return frozen(model, *model[2:])


def bottleneck_shut() -> nn.Module:
    """Nothing but the encoder is trained, and the units above it are off."""
    model = net()
    nn.init.constant_(model[4].bias, -10.0)
    return frozen(model, model[0])


def case(
    name: str,
    task: Task,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    **more: Any,
) -> Case:
    return Case(f"autoencoder/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    scale = ("target-scale", "rate-high")
    return [
        case("relu-adam", UNIT, net, adam(3e-3, steps=800)),
        case("tanh-momentum", UNIT, lambda: net(act=nn.Tanh), sgd(1.0, momentum=0.9, steps=800)),
        case(
            "deep-elu-adam", UNIT, lambda: net(DEEP, nn.ELU, LECUN), adam(2e-3, steps=800), shown=16
        ),
        case(
            "deep-relu-sgd",
            UNIT,
            lambda: net(DEEP),
            sgd(0.1),
            "depth-vanishing",
            also=("init-small", "rate-low"),
        ),
        case(
            "deep-sigmoid-adam",
            UNIT,
            lambda: net(DEEP, nn.Sigmoid),
            adam(1e-3),
            "depth-vanishing",
            also=("saturation",),
        ),
        case("relu-sgd-low", UNIT, net, sgd(1e-3), "rate-low"),
        case("relu-adam-0.3", UNIT, net, adam(0.5), "rate-high", shown=4),
        case("sigmoid-out-adam", UNIT, lambda: net(last=nn.Sigmoid()), adam(5e-3, steps=600)),
        case("sigmoid-out-minus", UNIT, lambda: squashed(-12.0), adam(1e-3), "saturation"),
        case("sigmoid-out-plus", UNIT, lambda: squashed(15.0), sgd(1.0), "saturation", shown=2),
        case(
            "sigmoid-out-normal",
            UNIT,
            lambda: net(start=normal(2.0), last=nn.Sigmoid()),
            sgd(0.5),
            "saturation",
            also=("init-large",),
        ),
        case(
            "large-start",
            UNIT,
            lambda: net(start=gain(6.0)),
            sgd(0.05),
            "init-large",
            also=("rate-high", "clip-missing"),
        ),
        case(
            "large-start-clip",
            UNIT,
            lambda: net(start=gain(3.0)),
            adam(5e-3, clip_norm=1.0, steps=600),
            "init-large",
        ),
        case("pixels-sgd", PIXELS, net, sgd(0.1), "input-scale", also=scale),
        case("pixels-adam", PIXELS, net, adam(3e-3, steps=600)),
        case(
            "pixels-tanh",
            PIXELS,
            lambda: net(act=nn.Tanh),
            adam(1e-3),
            "target-scale",
            also=("input-scale", "saturation", "rate-low"),
        ),
        case("bright-sgd", BRIGHT, net, sgd(0.5), "input-scale", also=("rate-high",)),
        case(
            "bright-sigmoid",
            BRIGHT,
            lambda: net(act=nn.Sigmoid),
            sgd(0.5),
            "input-scale",
            also=("saturation",),
        ),
        case(
            "bright-adam",
            BRIGHT,
            net,
            adam(2e-3, steps=600),
            "input-scale",
            shown=16,
            also=("rate-high", "dead-units"),
        ),
        case("cross-adam", CROSS, net, adam(3e-3, steps=600)),
        case("cross-rmsprop", CROSS, lambda: net(start=HE), rmsprop(2e-3, steps=600)),
        case("cross-sgd-100", CROSS, net, sgd(300.0), "rate-high"),
        case("cross-decay", CROSS, net, adamw(3e-3, weight_decay=20.0), "weight-decay"),
        case("decoder-only", UNIT, decoder_only, adam(3e-3, steps=500)),
        case("encoder-shut", UNIT, bottleneck_shut, adam(3e-3), "frozen", also=("dead-units",)),
        case("clip", UNIT, net, sgd(1.0, momentum=0.9, clip_norm=5e-4), "clip-tight"),
        case("checkpoint", UNIT, lambda: pretrained(net(), UNIT, 3e-3, 400), adam(3e-3, steps=500)),
    ]
