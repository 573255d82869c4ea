"""Sigmoid nets on the digits of scikit-learn: shallow ones train, deep ones see no gradient."""

from __future__ import annotations

from torch import Tensor, nn

from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    adam,
    digits,
    each,
    frozen,
    lazily,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
)


def scaled(factor: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    x, y = digits()
    return x / 16 * factor + shift, y


def pure_half() -> tuple[Tensor, Tensor]:
    x, y = scaled(1.0)
    return x.half(), y


DIGITS = Task("digits-flat", "cross_entropy", lazily(lambda: scaled(1.0), 32))
HUGE = Task(
    "digits-flat-5e3", "cross_entropy", lazily(lambda: scaled(5e3), 32), same_as=DIGITS.name
)
HALF = Task("digits-flat-half", "cross_entropy", lazily(pure_half, 32), same_as=DIGITS.name)


def net(depth: int, width: int = 48) -> nn.Module:
    return mlp([64, *[width] * depth, 10], nn.Sigmoid)


def plain(depth: int) -> nn.Module:
    return mlp([64, *[48] * depth, 10], nn.ReLU)


def case(name: str, build: object, recipe: object, fault: str = "", **more: object) -> Case:
    task = more.pop("task", DIGITS)
    return Case(f"sigmoid/{name}", task, build, recipe, fault, **more)  # type: ignore[arg-type]


def shallow() -> list[Case]:
    one, two = (lambda: net(1)), (lambda: net(2))
    return [
        case("one-adam", one, adam(1e-2)),
        case("two-sgd", two, sgd(0.3, 900), shown=4),
        case("two-glorot-rmsprop", started(two, 1.0), rmsprop(3e-3, 500)),
        case("three-gain-4-adam", started(lambda: net(3), 4.0), adam(3e-3, 900)),
        case("gone-on-with", pretrained(two, DIGITS, 300), sgd(0.05, 500), shown=2),
        case("one-3e-5", one, sgd(3e-5, 900), "rate-low"),
        case("two-clip-2e-3", two, sgd(0.1, 800, clip_norm=2e-3), "clip-tight", also=("rate-low",)),
        case(
            "two-wide-start", started(two, 90.0), sgd(0.02, 600), "init-large", also=("saturation",)
        ),
        case("one-grey-5e3", one, sgd(0.1, 700), "input-scale", task=HUGE, also=("saturation",)),
        case("two-adam-rate-2", two, adam(2.0, 500), "rate-high", shown=1),
        case("two-decay", two, adam(3e-3, 800, weight_decay=0.3), "weight-decay"),
    ]


def deep() -> list[Case]:
    six, ten = (lambda: net(6)), (lambda: net(10))
    return [
        case("six-sgd", six, sgd(0.1, 900), "depth-vanishing", also=("init-small",)),
        case("ten-adam", ten, adam(1e-3, 700), "depth-vanishing", also=("init-small",), shown=16),
        case("eight-normed", each(normed, nn.BatchNorm1d, lambda _: None), adam(3e-3, 500)),
        case("four-only-head", frozen(lambda: net(4), ("0", "2", "4", "6")), adam(1e-3), "frozen"),
    ]


def normed() -> nn.Module:
    return mlp([64, *[48] * 8, 10], nn.Sigmoid, nn.BatchNorm1d)


def halves() -> list[Case]:
    """Parameters of 16 bits: an eps of 1e-8 is 0 there, and some pixels are never on."""
    half = lambda: plain(2).half()  # noqa: E731
    return [
        case("half-eps-1e-8", half, adam(1e-3, 300), "eps", task=HALF, also=("precision",)),
        case("half-eps-1e-4", half, adam(1e-3, 300, eps=1e-4), task=HALF),
        case("autocast", lambda: plain(2), adam(2e-3, 300, precision="fp16")),
    ]


def cases() -> list[Case]:
    """Depth, start, rate, and 16 bits."""
    return shallow() + deep() + halves()
