"""Plain ReLU nets on images of digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    DIGITS,
    HE,
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
    zeroed,
)


def bytes_() -> tuple[Tensor, Tensor]:
    """The images as files hold them: 0 to 255."""
    x, y = digits()
    return (x + 1) * 127.5, y


RAW = Task("digits-bytes", "cross_entropy", lazily(bytes_, 32), same_as="digits")
SMALL = replace(DIGITS, stream=lazily(digits, 16))


def net(
    depth: int, width: int = 64, start: Start | None = None, bias: float = 0.0
) -> nn.Sequential:
    return started(mlp([64, *[width] * depth, 10], nn.ReLU), start, bias)


def head_only(depth: int) -> nn.Module:
    model = net(depth, 128, HE)
    return frozen(model, model[-1])


def zero_head(depth: int) -> nn.Module:
    model = net(depth, start=HE)
    return zeroed(model, model[-1])


def zeros(weight: Tensor) -> None:
    nn.init.zeros_(weight)


def dead(depth: int, at: int) -> nn.Sequential:
    """One layer in the middle is off for every input."""
    model = net(depth, start=HE)
    nn.init.constant_(model[2 * at].bias, -15.0)
    return model


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = DIGITS,
    **more: Any,
) -> Case:
    return Case(f"relu-mlp/{name}", task, build, recipe, fault, **more)


def starts() -> list[Case]:
    """Depth, width and start."""
    large = ("init-large", "depth-exploding", "rate-high")
    return [
        case("he-3-sgd", lambda: net(3, start=HE), sgd(0.1, steps=600)),
        case("he-8-adam", lambda: net(8, start=HE), adam(1e-3)),
        case("he-20-adam", lambda: net(20, start=HE), adam(5e-4)),
        case("he-24-sgd", lambda: net(24, start=HE), sgd(0.02, steps=1000), shown=16),
        case("default-3-adam", lambda: net(3), adam(2e-3), task=SMALL, shown=16),
        case("default-20-sgd", lambda: net(20), sgd(0.05), "depth-vanishing", also=("init-small",)),
        case(
            "default-20-adam", lambda: net(20), adam(3e-4), "depth-vanishing", also=("init-small",)
        ),
        case("default-8-slow", lambda: net(8), sgd(0.05, momentum=0.9, steps=1200)),
        case(
            "default-12-momentum",
            lambda: net(12),
            sgd(0.05, momentum=0.9, steps=600),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "default-30-adam",
            lambda: net(30, 32),
            adam(1e-4),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "normal-5-sgd", lambda: net(5, start=normal(1.0)), sgd(0.01), "init-large", also=large
        ),
        case(
            "normal-2-sgd", lambda: net(2, start=normal(1.0)), sgd(0.05), "init-large", also=large
        ),
        case(
            "normal-4-adam", lambda: net(4, start=normal(1.0)), adam(1e-3), "init-large", also=large
        ),
        case("gain3-10-sgd", lambda: net(10, start=gain(3.0)), sgd(0.05), "init-large", also=large),
        case("dead-all", lambda: net(4, start=HE, bias=-15.0), adam(1e-3), "dead-units"),
        case("dead-one-layer", lambda: dead(4, 2), sgd(0.1), "dead-units"),
        case("wide-512", lambda: net(2, 512, HE), sgd(0.05, steps=300)),
        case(
            "narrow-4-14",
            lambda: net(14, 4, HE),
            adam(1e-3, steps=500),
            "dead-units",
            also=("depth-vanishing",),
        ),
        case("zeros", lambda: net(3, start=zeros), adam(1e-3), "init-symmetric"),
        case("zero-head", lambda: zero_head(5), sgd(0.1), shown=4),
        case("random-features", lambda: head_only(3), sgd(0.02, momentum=0.9)),
        case("checkpoint", lambda: pretrained(net(4, start=HE), DIGITS, steps=250), adam(3e-4)),
        case(
            "checkpoint-rate-high",
            lambda: pretrained(net(4, start=HE), DIGITS),
            adam(0.1),
            "rate-high",
        ),
    ]


def recipes() -> list[Case]:
    def plain() -> nn.Module:
        return net(4, start=HE)

    def steep() -> nn.Module:
        return net(8, start=gain(2.2))

    return [
        case("sgd-1e-5", plain, sgd(1e-5), "rate-low"),
        case("sgd-3", plain, sgd(3.0), "rate-high"),
        case("adam-2e-6", plain, adam(2e-6), "rate-low", shown=4),
        case("adam-1", plain, adam(1.0), "rate-high"),
        case("momentum-edge-a", plain, sgd(0.05, momentum=0.97), "rate-high"),
        case("momentum-edge-b", plain, sgd(0.03, momentum=0.98), "rate-high"),
        case("warm-into-rate", plain, sgd(3.0, warmup=400, steps=600), "rate-high"),
        case("warm-into-adam", plain, adam(0.3, warmup=400, steps=600), "rate-high"),
        case("bytes-sgd", plain, sgd(0.1), "input-scale", task=RAW, also=("rate-high",)),
        case("bytes-adam", plain, adam(1e-3, steps=800), task=RAW),
        case("steep-unclipped", steep, sgd(0.1), "clip-missing", also=("init-large", "rate-high")),
        case("steep-clipped", steep, sgd(0.1, clip_norm=0.5)),
        case("clip-1e-3", plain, sgd(0.05, clip_norm=1e-3), "clip-tight"),
        case("decay-adamw", plain, adamw(5e-3, weight_decay=20.0), "weight-decay", shown=2),
        case("decay-sgd", plain, sgd(0.1, weight_decay=0.3), "weight-decay"),
        case("rmsprop-3e-4", plain, rmsprop(3e-4, momentum=0.9), shown=16),
        case("warm-100", plain, adam(2e-3, warmup=150)),
    ]


def cases() -> list[Case]:
    return [*starts(), *recipes()]
