"""Residual nets of small convolutions on the digits as pictures, with batch norm and without."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    Residual,
    adam,
    adamw,
    digits,
    each,
    frozen,
    lazily,
    pretrained,
    sgd,
    started,
    times,
)


def pictures(factor: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    x, y = digits()
    return (x.reshape(-1, 1, 8, 8) - 4.9) / 6.0 * factor + shift, y


PICTURES = Task("pictures", "cross_entropy", lazily(pictures, 32))
FAR = Task("pictures-far", "cross_entropy", lazily(lambda: pictures(3e4), 32), same_as="pictures")
OFFSET = Task(
    "pictures-offset", "cross_entropy", lazily(lambda: pictures(1.0, 2e3), 32), same_as="pictures"
)


def branch(width: int, norm: bool) -> nn.Module:
    def layer() -> list[nn.Module]:
        conv = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        return [conv, nn.BatchNorm2d(width)] if norm else [conv]

    return nn.Sequential(*layer(), nn.ReLU(), *layer())


def net(blocks: int, norm: bool = True, width: int = 8) -> Build:
    def made() -> nn.Module:
        body: list[nn.Module] = []
        for _ in range(blocks):
            body += [Residual(branch(width, norm)), nn.ReLU()]
        front = nn.Conv2d(1, width, 3, padding=1)
        pool = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(width * 16, 10)]
        return nn.Sequential(front, *body, *pool)

    return made


def still(build: Build) -> Build:
    """The last norm of each branch starts at zero: every block is the identity at first."""

    def zero(block: Residual) -> None:
        nn.init.zeros_(block.body[-1].weight)  # type: ignore[index]

    return each(build, Residual, zero)


def fronted(blocks: int) -> Build:
    """The pixels are normed first, whatever their scale."""
    return lambda: nn.Sequential(nn.BatchNorm2d(1), net(blocks)())


def gains(factor: float) -> Any:
    return each(net(4), nn.BatchNorm2d, times(factor))


def case(name: str, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"res-cnn/{name}", more.pop("task", PICTURES), build, recipe, fault, **more)


def sound() -> list[Case]:
    return [
        case("3-norm-sgd", net(3), sgd(0.05, 350)),
        case("3-bare-adam", net(3, False), adam(2e-3, 350)),
        case("5-still-sgd", still(net(5, width=6)), sgd(0.1, 300), shown=2),
        case("3-bare-slow", net(3, False), sgd(2e-3, 450)),
        case("2-front-norm-far", fronted(2), sgd(0.05, 350), task=FAR),
        case("4-norm-gains-5", gains(5.0), adam(2e-3, 350)),
        case("2-gone-on-with", pretrained(net(2), PICTURES, 150), sgd(0.01, 300), shown=1),
        case("4-norm-warm", net(4, width=6), adamw(1e-2, 450, warmup=200), shown=16),
    ]


def faulty() -> list[Case]:
    doubled = ("init-large",)
    every = tuple(f"{i}." for i in range(7))
    return [
        case(
            "8-bare-sgd",
            started(net(8, False), 2.5),
            sgd(0.02, 200),
            "depth-exploding",
            also=doubled,
        ),
        case(
            "8-bare-adam",
            started(net(8, False), 2.5),
            adam(1e-3, 300),
            "depth-exploding",
            also=doubled,
        ),
        case("3-norm-far", net(3), sgd(0.05, 350), "input-scale", task=FAR),
        case("3-bare-far", net(3, False), sgd(0.01, 250), "input-scale", task=FAR),
        case("3-bare-offset", net(3, False), adam(2e-3, 350), "input-scale", task=OFFSET),
        case("3-bare-rate-1", net(3, False), sgd(1.0, 300), "rate-high"),
        case("3-norm-decay", net(3), sgd(0.05, 300, weight_decay=1.5), "weight-decay"),
        case("3-norm-clip", net(3), sgd(1e-2, 350, clip_norm=2e-3), "clip-tight"),
        case(
            "3-frozen",
            frozen(started(net(3, False), 0.05), every),
            sgd(0.01, 350),
            "frozen",
            also=("init-small",),
        ),
    ]


def cases() -> list[Case]:
    """Norm, start, scale, and rate."""
    return sound() + faulty()
