"""Residual nets without normalization on images of digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case
from tests.corpus.tune._common import (
    DIGITS,
    HE,
    LECUN,
    Start,
    adam,
    frozen,
    gain,
    pretrained,
    sgd,
    started,
)


class Block(nn.Module):
    """x plus ``scale`` times two maps of it."""

    def __init__(self, width: int, act: nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.act, self.scale = act, scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.outer(self.act(self.inner(x)))


def net(
    depth: int,
    start: Start | None,
    scale: float = 1.0,
    outer: float | None = None,
    act: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """``outer`` multiplies the start of each block's last map; at 0 a block begins as identity."""
    blocks = [Block(32, act(), scale) for _ in range(depth)]
    model = started(nn.Sequential(nn.Linear(64, 32), *blocks, nn.Linear(32, 10)), start)
    if outer is not None:
        with torch.no_grad():
            for block in blocks:
                block.outer.weight.mul_(outer)
    return model


def zero_head(depth: int) -> nn.Module:
    model = net(depth, HE, outer=0.0)
    nn.init.zeros_(model[-1].weight)
    return model


def stem_only(depth: int) -> nn.Module:
    """A frozen trunk below a trained head."""
    model = net(depth, HE, scale=0.3)
    return frozen(model, model[-1])


def all_zero(depth: int) -> nn.Module:
    """Nothing but the stem differs from zero: neither the branches nor the head get a gradient."""
    model = net(depth, HE)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear) and module is not model[0]:
            nn.init.zeros_(module.weight)
    return frozen(model, model[0])


def case(
    name: str, build: Callable[[], nn.Module], recipe: Recipe, fault: str = "", **more: Any
) -> Case:
    return Case(f"residual/{name}", DIGITS, build, recipe, fault, **more)


def cases() -> list[Case]:
    large = ("depth-exploding", "init-large", "rate-high", "clip-missing")
    return [
        case("zero-last-20", lambda: net(20, HE, outer=0.0), sgd(0.02)),
        case("zero-last-50", lambda: net(50, HE, outer=0.0), sgd(5e-3, steps=300)),
        case("zero-last-30-adam", lambda: net(30, HE, outer=0.0), adam(5e-4, steps=300), shown=4),
        case("zero-last-fast", lambda: net(20, HE, outer=0.0), sgd(0.5, steps=300), "rate-high"),
        case("zero-head", lambda: zero_head(12), adam(1e-3, steps=300), shown=2),
        case("scaled-30", lambda: net(30, HE, scale=30**-0.5), sgd(5e-3)),
        case("scaled-60", lambda: net(60, LECUN, scale=60**-0.5), adam(3e-4, steps=300)),
        case("fixup-24", lambda: net(24, HE, outer=24**-0.5), sgd(5e-3, steps=400)),
        case("unscaled-10-adam", lambda: net(10, HE), adam(3e-4), "depth-exploding", also=large),
        case("unscaled-20-sgd", lambda: net(20, HE), sgd(0.02), "depth-exploding", also=large),
        case(
            "unscaled-40-sgd",
            lambda: net(40, HE),
            sgd(1e-3, steps=300),
            "depth-exploding",
            also=large,
        ),
        case(
            "unscaled-40-adam",
            lambda: net(40, HE),
            adam(1e-3, steps=300),
            "depth-exploding",
            also=large,
        ),
        case(
            "unscaled-30-clip",
            lambda: net(30, HE),
            sgd(1e-3, clip_norm=1.0),
            "depth-exploding",
            also=large,
        ),
        case("unscaled-6-clipped", lambda: net(6, HE), sgd(0.05, clip_norm=0.5, steps=1000)),
        case("unscaled-6-unclipped", lambda: net(6, HE), sgd(0.05), "clip-missing", also=large),
        case("default-20-sgd", lambda: net(20, None), sgd(0.05), shown=16),
        case("default-60-adam", lambda: net(60, None), adam(1e-3, steps=300)),
        case("tanh-16", lambda: net(16, LECUN, act=nn.Tanh), sgd(2e-3, momentum=0.9)),
        case(
            "tanh-40-large",
            lambda: net(40, gain(3.0), act=nn.Tanh),
            sgd(0.01, steps=300),
            "init-large",
            also=large,
        ),
        case("frozen-trunk", lambda: stem_only(10), adam(3e-3)),
        case("only-stem", lambda: all_zero(10), sgd(0.1), "frozen", also=("init-symmetric",)),
        case("rate-1e-6", lambda: net(10, None), sgd(1e-6), "rate-low"),
        case("clip-1e-3", lambda: net(10, None), sgd(0.05, clip_norm=1e-3), "clip-tight"),
        case(
            "decay",
            lambda: net(10, None),
            sgd(0.05, momentum=0.9, weight_decay=0.4),
            "weight-decay",
        ),
        case(
            "checkpoint",
            lambda: pretrained(net(12, None), DIGITS),
            sgd(0.01, momentum=0.9, steps=300),
        ),
        case("warm-late", lambda: net(12, None), sgd(0.3, warmup=250, steps=400), "rate-high"),
    ]
