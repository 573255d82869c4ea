"""Deep plain nets with SELU, ELU and GELU on images of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from gradaudit.records import Recipe
from tests.corpus.case import Case
from tests.corpus.tune._common import (
    DIGITS,
    HE,
    LECUN,
    Start,
    adam,
    adamw,
    gain,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
)

Act = Callable[[], nn.Module]


def net(depth: int, start: Start | None, act: Act = nn.SELU, width: int = 48) -> nn.Module:
    return started(mlp([64, *[width] * depth, 10], act), start)


def case(
    name: str, build: Callable[[], nn.Module], recipe: Recipe, fault: str = "", **more: Any
) -> Case:
    return Case(f"smooth-mlp/{name}", DIGITS, build, recipe, fault, **more)


def cases() -> list[Case]:
    large = ("depth-exploding", "init-large", "rate-high", "clip-missing")
    small = ("depth-vanishing", "init-small")
    return [
        case("selu-10-sgd", lambda: net(10, LECUN), sgd(0.02)),
        case("selu-30-sgd", lambda: net(30, LECUN), sgd(0.01, steps=500), shown=16),
        case("selu-40-adam", lambda: net(40, LECUN, width=32), adam(2e-4, steps=500)),
        case("selu-20-sgd-fast", lambda: net(20, LECUN), sgd(0.5), "rate-high"),
        case("selu-30-he", lambda: net(30, HE), sgd(0.01), "depth-exploding", also=large),
        case("selu-16-gain3", lambda: net(16, gain(3.0)), adam(1e-3), "init-large", also=large),
        case("selu-20-default", lambda: net(20, None), sgd(0.05), "depth-vanishing", also=small),
        case("selu-6-default", lambda: net(6, None), adam(1e-3), shown=1),
        case("elu-12-default", lambda: net(12, None, nn.ELU), sgd(0.02), "init-small", also=small),
        case("elu-12-he", lambda: net(12, HE, nn.ELU), sgd(0.02, steps=500), shown=4),
        case("elu-12-momentum", lambda: net(12, HE, nn.ELU), sgd(0.05, momentum=0.95), "rate-high"),
        case("elu-24-rmsprop", lambda: net(24, gain(1.25), nn.ELU), rmsprop(1e-4, steps=600)),
        case("gelu-12-he", lambda: net(12, HE, nn.GELU), adam(5e-4)),
        case(
            "gelu-24-lecun",
            lambda: net(24, LECUN, nn.GELU),
            sgd(0.1),
            "depth-vanishing",
            also=small,
        ),
        case("gelu-6-adam", lambda: net(6, HE, nn.GELU), adam(0.3), "rate-high", shown=2),
        case(
            "silu-8-small", lambda: net(8, gain(0.5), nn.SiLU), sgd(0.1), "init-small", also=small
        ),
        case("silu-8-adamw", lambda: net(8, gain(2.0), nn.SiLU), adamw(1e-3, warmup=50)),
        case("sigmoid-3-adam", lambda: net(3, None, nn.Sigmoid), adam(3e-3, steps=800)),
        case(
            "sigmoid-5-sgd",
            lambda: net(5, None, nn.Sigmoid),
            sgd(0.1, steps=800),
            "depth-vanishing",
            also=("saturation", "init-small"),
        ),
        case(
            "sigmoid-2-slow", lambda: net(2, LECUN, nn.Sigmoid), sgd(0.5, momentum=0.9, steps=600)
        ),
        case(
            "hardtanh-large",
            lambda: net(8, gain(20.0), nn.Hardtanh),
            sgd(0.02),
            "saturation",
            also=("init-large",),
        ),
        case("selu-10-clip", lambda: net(10, LECUN), sgd(0.02, clip_norm=3e-3), "clip-tight"),
        case(
            "selu-10-decay",
            lambda: net(10, LECUN),
            sgd(0.02, momentum=0.9, weight_decay=0.2),
            "weight-decay",
        ),
        case(
            "selu-checkpoint",
            lambda: pretrained(net(12, LECUN), DIGITS, 5e-4),
            sgd(5e-3, steps=300),
        ),
        case(
            "selu-warm-late", lambda: net(10, LECUN), sgd(0.3, warmup=400, steps=600), "rate-high"
        ),
    ]
