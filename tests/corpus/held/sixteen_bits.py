"""Nets in 16 bits: sums that leave their range, steps below their resolution, an eps of nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import Build, adam, adamw, digits, lazily, mlp, sgd, started, times

FP16, BF16 = "fp16", "bf16"


@cache
def counts(factor: float, half: bool = False) -> tuple[Tensor, Tensor]:
    """The digits as 64 numbers of a unit variance, times a factor."""
    x, y = digits()
    x = (x - 4.9) / 6 * factor
    return (x.half() if half else x), y


def task(name: str, factor: float, half: bool = False) -> Task:
    made = lazily(lambda: counts(factor, half), 32)
    return Task(name, "cross_entropy", made, same_as="" if name == "counts" else "counts")


COUNTS = task("counts", 1.0)
LARGE = task("counts-large", 3e4)
HALF = task("counts-half", 1.0, True)
ON = 64


def net(depth: int = 2, norm: Any = None) -> Build:
    return lambda: mlp([ON, *[48] * depth, 10], nn.ReLU, norm)


def half(build: Build) -> Build:
    return lambda: build().half()


def small_head(build: Build) -> Build:
    """Logits in hundredths: the gradients behind them are a hundredth too."""

    def made() -> nn.Module:
        model = build()
        with torch.no_grad():
            times(0.003)(model[-1])  # type: ignore[index]
        return model

    return made


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"16-bits/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Autocast, and parameters of 16 bits."""
    eps = ("precision",)
    normed = net(2, nn.LayerNorm)
    return [
        case("fp16-adam", COUNTS, net(), adam(2e-3, 300, precision=FP16), shown=4),
        case("fp16-sgd", COUNTS, net(), sgd(0.05, 350, precision=FP16), shown=2),
        case("bf16-adamw", COUNTS, net(3), adamw(2e-3, 300, precision=BF16), shown=16),
        case("large-normed-fp32", LARGE, normed, adam(2e-3, 350), shown=4),
        case("large-normed-bf16", LARGE, normed, adam(2e-3, 350, precision=BF16)),
        case("half-sgd", HALF, half(net()), sgd(0.05, 350), shown=1),
        case("half-adam-eps", HALF, half(net()), adam(1e-3, 300, eps=1e-4), shown=2),
        case(
            "large-normed-fp16",
            LARGE,
            normed,
            adam(2e-3, 350, precision=FP16),
            "precision",
            also=("input-scale",),
        ),
        case(
            "deep-fp16",
            COUNTS,
            started(net(10), 2.8),
            adam(1e-3, 300, precision=FP16),
            "depth-exploding",
            also=("init-large", "precision"),
        ),
        case("half-adam", HALF, half(net()), adam(1e-3, 300), "eps", also=eps, shown=4),
        case("half-adamw", HALF, half(net(3)), adamw(3e-4, 300), "eps", also=eps, shown=16),
        case("half-fine-steps", HALF, half(net()), sgd(3e-5, 800), "precision", also=("rate-low",)),
        case(
            "half-small-head",
            HALF,
            half(small_head(net(3))),
            adam(1e-6, 400, eps=1e-4),
            "precision",
            also=("rate-low",),
        ),
        case("fp16-rate-5", COUNTS, net(), sgd(5.0, 300, precision=FP16), "rate-high", shown=2),
    ]
