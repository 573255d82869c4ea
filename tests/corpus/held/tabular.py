"""Tables of scikit-learn in the units they come in, and standardised."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    adam,
    adamw,
    lazily,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
)


@cache
def table(name: str, units: bool) -> tuple[Tensor, Tensor]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x = torch.tensor(bunch.data, dtype=torch.float32)
    x = x if units else (x - x.mean(0)) / x.std(0)
    y = torch.tensor(bunch.target)
    return x, y if name == "wine" else y.float()[:, None]


@cache
def friedman(units: bool) -> tuple[Tensor, Tensor]:
    """Ten numbers in 0..1, and a price of some 14,000 that half of them make."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(2000, noise=0.5, random_state=4)
    y = torch.tensor(y, dtype=torch.float32)[:, None]
    y = y * 1000 if units else (y - y.mean()) / y.std()
    return torch.tensor(x, dtype=torch.float32), y


WINE = Task("wine", "cross_entropy", lazily(lambda: table("wine", False), 16))
WINE_RAW = Task(
    "wine-raw", "cross_entropy", lazily(lambda: table("wine", True), 16), same_as="wine"
)
LUMPS = Task("lumps", "bce_with_logits", lazily(lambda: table("breast_cancer", False), 32))
LUMPS_RAW = Task(
    "lumps-raw",
    "bce_with_logits",
    lazily(lambda: table("breast_cancer", True), 32),
    same_as="lumps",
)
PRICES = Task("prices", "mse", lazily(lambda: friedman(False), 32))
PRICES_RAW = Task("prices-raw", "mse", lazily(lambda: friedman(True), 32), same_as="prices")


def net(sizes: list[int], act: Any = nn.ReLU, norm: Any = None) -> Build:
    return lambda: mlp(sizes, act, norm)


def normed(build: Build, features: int) -> Build:
    """The columns are normed first, whatever their units."""
    return lambda: nn.Sequential(nn.BatchNorm1d(features), build())


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"table/{name}", task, build, recipe, fault, **more)


def sound() -> list[Case]:
    wine, lumps, prices = net([13, 32, 3]), net([30, 32, 16, 1]), net([10, 64, 64, 1])
    return [
        case("wine", WINE, wine, adam(5e-3, 400)),
        case("wine-sgd", WINE, wine, sgd(0.05, 500), shown=4),
        case("wine-raw-normed", WINE_RAW, normed(wine, 13), adam(3e-3, 500)),
        case("lumps", LUMPS, lumps, sgd(0.03, 500)),
        case("lumps-raw-adam", LUMPS_RAW, lumps, adam(1e-3, 1500), shown=16),
        case("lumps-raw-normed", LUMPS_RAW, normed(lumps, 30), sgd(0.03, 500)),
        case("prices", PRICES, prices, adam(3e-3, 1000)),
        case("prices-sgd", PRICES, prices, sgd(0.03, 1200), shown=16),
        case("prices-silu", PRICES, net([10, 48, 48, 48, 1], nn.SiLU), adamw(5e-3, 1000)),
        case("prices-sigmoid-4", PRICES, net([10, *[40] * 4, 1], nn.Sigmoid), adam(5e-3, 900)),
        case("prices-gone-on-with", PRICES, pretrained(prices, PRICES, 400), adam(3e-4, 500)),
        case("prices-long-warm-up", PRICES, prices, rmsprop(2e-3, 1000, warmup=400), shown=2),
    ]


def faulty() -> list[Case]:
    wine, lumps, prices = net([13, 32, 3]), net([30, 32, 16, 1]), net([10, 64, 64, 1])
    slow = ("rate-low",)
    return [
        case("wine-raw-sgd", WINE_RAW, wine, sgd(0.05, 500), "input-scale", also=("dead-units",)),
        case(
            "wine-raw-tanh",
            WINE_RAW,
            net([13, 32, 32, 3], nn.Tanh),
            sgd(0.02, 600),
            "input-scale",
            also=("saturation",),
        ),
        case(
            "lumps-raw-sgd", LUMPS_RAW, lumps, sgd(0.01, 500), "input-scale", also=("dead-units",)
        ),
        case(
            "lumps-raw-sigmoid",
            LUMPS_RAW,
            net([30, 32, 32, 1], nn.Sigmoid),
            sgd(0.01, 600),
            "input-scale",
            also=("saturation",),
        ),
        case(
            "prices-raw-adam",
            PRICES_RAW,
            prices,
            adam(1e-3, 700),
            "target-scale",
            also=slow,
            shown=16,
        ),
        case(
            "prices-raw-sgd",
            PRICES_RAW,
            prices,
            sgd(1e-2, 600),
            "target-scale",
            also=("rate-high",),
        ),
        case("prices-raw-1e-6", PRICES_RAW, prices, sgd(1e-9, 1000), "target-scale", also=slow),
        case(
            "prices-raw-clip",
            PRICES_RAW,
            prices,
            sgd(0.05, 1000, clip_norm=1.0),
            "target-scale",
            also=("clip-tight",),
        ),
        case("prices-decay", PRICES, prices, adamw(1e-3, 800, weight_decay=300.0), "weight-decay"),
        case(
            "prices-sigmoid-14",
            PRICES,
            net([10, *[40] * 8, 1], nn.Sigmoid),
            adam(3e-3, 600),
            "depth-vanishing",
        ),
        case(
            "prices-small",
            PRICES,
            started(net([10, *[48] * 6, 1]), 0.2),
            sgd(0.03, 800),
            "init-small",
        ),
        case("lumps-1e-6", LUMPS, lumps, adam(1e-6, 600), "rate-low"),
        case("wine-rate-100", WINE, net([13, 32, 32, 3]), sgd(30.0, 500), "rate-high"),
    ]


def cases() -> list[Case]:
    """Wine, lumps, prices."""
    return sound() + faulty()
