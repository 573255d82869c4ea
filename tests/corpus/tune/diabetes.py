"""Regression on 442 patients: ten standardized measures, a target of 25 to 346."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
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
    gain,
    lazily,
    mlp,
    rmsprop,
    sgd,
    started,
    zeroed,
)


@cache
def _patients() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    return x, torch.tensor(y, dtype=torch.float32)[:, None]


def raw() -> tuple[Tensor, Tensor]:
    x, y = _patients()
    return x / x.std(0), y


def scaled() -> tuple[Tensor, Tensor]:
    x, y = raw()
    return x, (y - y.mean()) / y.std()


def as_given() -> tuple[Tensor, Tensor]:
    """The measures as scikit-learn has them: each column has a norm of 1, an entry is 0.05."""
    x, y = _patients()
    return x, (y - y.mean()) / y.std()


def mixed() -> tuple[Tensor, Tensor]:
    """Three measures in other units than the rest."""
    x, y = scaled()
    units = torch.ones(10)
    units[[2, 3, 8]] = torch.tensor([800.0, 3000.0, 500.0])
    return x * units, y


SCALED = Task("diabetes", "mse", lazily(scaled, 32))
RAW = Task("diabetes-raw", "mse", lazily(raw, 32), same_as="diabetes")
RAW_L1 = Task("diabetes-l1-raw", "l1", lazily(raw, 32))
TINY = Task("diabetes-tiny", "mse", lazily(as_given, 32), same_as="diabetes")
MIXED = Task("diabetes-mixed", "mse", lazily(mixed, 32), same_as="diabetes")


def net(
    depth: int = 2,
    width: int = 48,
    act: Callable[[], nn.Module] = nn.ReLU,
    start: Start | None = None,
) -> nn.Sequential:
    return started(mlp([10, *[width] * depth, 1], act), start)


def zero_head() -> nn.Module:
    model = net(start=HE)
    return zeroed(model, model[-1])


def mean_known() -> nn.Module:
    """The head's bias starts at the mean target."""
    model = net(start=HE)
    nn.init.constant_(model[-1].bias, 152.0)
    return model


def case(
    name: str,
    task: Task,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    **more: Any,
) -> Case:
    return Case(f"diabetes/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    scale = ("rate-low",)
    hot = ("rate-high", "clip-missing")
    return [
        case("scaled-adam", SCALED, net, adam(1e-3)),
        case("scaled-sgd", SCALED, net, sgd(0.05), shown=4),
        case("scaled-zero-head", SCALED, zero_head, sgd(0.03)),
        case("scaled-linear", SCALED, lambda: nn.Linear(10, 1), sgd(0.01, momentum=0.9)),
        case("scaled-sgd-3", SCALED, lambda: net(start=HE), sgd(1.0), "rate-high"),
        case("scaled-adam-1e-6", SCALED, net, adam(1e-6), "rate-low"),
        case("scaled-decay", SCALED, net, sgd(0.05, weight_decay=1.0), "weight-decay"),
        case(
            "scaled-12-default",
            SCALED,
            lambda: net(12),
            sgd(0.05),
            "depth-vanishing",
            also=("init-small",),
        ),
        case(
            "scaled-12-large",
            SCALED,
            lambda: net(12, start=gain(2.5)),
            adam(1e-3),
            "init-large",
            also=("depth-exploding",),
        ),
        case("raw-sgd", RAW, lambda: net(start=HE), sgd(0.05), "target-scale", also=hot),
        case(
            "raw-sgd-1e-4",
            RAW,
            lambda: net(start=HE),
            sgd(3e-5, steps=600),
            "target-scale",
            also=hot,
        ),
        case("raw-adam-1e-4", RAW, net, adam(2e-4), "target-scale", also=scale),
        case("raw-adam-1e-2", RAW, net, adam(1e-2, steps=600)),
        case(
            "raw-tanh-adam", RAW, lambda: net(act=nn.Tanh), adam(1e-2), "target-scale", also=scale
        ),
        case(
            "raw-linear-adam", RAW, lambda: nn.Linear(10, 1), adam(0.1), "target-scale", also=scale
        ),
        case("raw-linear-sgd", RAW, lambda: nn.Linear(10, 1), sgd(0.03)),
        case("raw-mean-known", RAW, mean_known, adam(3e-3, steps=500)),
        case(
            "raw-clip",
            RAW,
            net,
            sgd(0.05, clip_norm=0.1),
            "target-scale",
            also=("clip-tight", "rate-low"),
        ),
        case(
            "raw-clip-large",
            RAW,
            net,
            sgd(1e-3, momentum=0.9, clip_norm=100.0, steps=600),
            shown=16,
        ),
        case("raw-l1-sgd", RAW_L1, net, sgd(0.01, momentum=0.9, steps=600)),
        case("raw-l1-adam", RAW_L1, lambda: net(width=96), adam(1e-2, steps=600)),
        case("raw-l1-low", RAW_L1, net, adam(1e-4), "target-scale", also=scale),
        case("tiny-adam", TINY, net, adam(3e-3, steps=500)),
        case("tiny-sgd", TINY, net, sgd(0.01), "input-scale", also=("rate-low",)),
        case("tiny-tanh-rmsprop", TINY, lambda: net(act=nn.Tanh), rmsprop(3e-3)),
        case("mixed-sgd", MIXED, net, sgd(0.01), "input-scale", also=("rate-high",)),
        case("mixed-adam", MIXED, net, adam(1e-3), "input-scale", also=("rate-high",)),
        case(
            "mixed-tanh",
            MIXED,
            lambda: net(act=nn.Tanh),
            adamw(1e-3),
            "input-scale",
            also=("saturation",),
        ),
    ]
