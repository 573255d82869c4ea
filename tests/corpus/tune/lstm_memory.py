"""LSTM nets that are to remember their first input, for long or for a while."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import adam, adamw, frozen, rmsprop, sgd, zeroed
from tests.corpus.tune._sequences import Reader, recall

SHORT, LONG, VERY = recall(12), recall(80), recall(120)


def net(forget: float | None = None, width: int = 24, layers: int = 1) -> Reader:
    """``forget`` is the bias of the forget gates."""
    layer = nn.LSTM(5, width, layers, batch_first=True)
    for k in range(layers) if forget is not None else ():
        with torch.no_grad():
            getattr(layer, f"bias_ih_l{k}")[width : 2 * width] = forget
            getattr(layer, f"bias_hh_l{k}")[width : 2 * width] = 0.0
    return Reader(layer, 4)


def chrono(longest: int, width: int = 24) -> Reader:
    """Gates that forget over times between 1 and ``longest`` steps."""
    model = net(0.0, width)
    with torch.no_grad():
        times = torch.empty(width).uniform_(1, longest - 1).log()
        bias = model.layer.bias_ih_l0
        bias[width : 2 * width] = times
        bias[:width] = -times
    return model


def scaled(size: float) -> Reader:
    model = net()
    with torch.no_grad():
        for weight in (model.layer.weight_ih_l0, model.layer.weight_hh_l0):
            weight.mul_(size)
    return model


def head_only() -> nn.Module:
    model = net(1.0, 64)
    return frozen(model, model.head)


def zero_head() -> nn.Module:
    model = net(2.0)
    return zeroed(model, model.head)


def case(
    name: str,
    task: Task,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    **more: Any,
) -> Case:
    return Case(f"lstm/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    gone = {"also": ("depth-vanishing", "init-small")}
    keep = math.log(79)
    return [
        case("short-default", SHORT, net, adam(5e-3, steps=1200), shown=4),
        case("short-forget-1", SHORT, lambda: net(1.0), adam(3e-3)),
        case("short-forget-1-sgd", SHORT, lambda: net(1.0), sgd(1.0, momentum=0.9, steps=1000)),
        case("short-zero-head", SHORT, zero_head, adamw(3e-3)),
        case("short-two-layers", SHORT, lambda: net(1.0, layers=2), adam(3e-3), shown=16),
        case(
            "short-head-only",
            SHORT,
            head_only,
            adam(2e-2, steps=500),
            "frozen",
            also=("time-vanishing",),
        ),
        case("short-forget-minus", SHORT, lambda: net(-3.0), adam(3e-3), "time-vanishing", **gone),
        case("short-sgd-1e-3", SHORT, lambda: net(1.0), sgd(1e-3), "rate-low"),
        case("short-sgd-30", SHORT, lambda: net(1.0), sgd(100.0), "rate-high"),
        case("short-adam-1", SHORT, lambda: net(1.0), adam(1.0), "rate-high"),
        case("short-clip", SHORT, lambda: net(1.0), sgd(0.5, clip_norm=2e-3), "clip-tight"),
        case(
            "short-decay", SHORT, lambda: net(1.0), adamw(3e-3, weight_decay=30.0), "weight-decay"
        ),
        case(
            "short-large",
            SHORT,
            lambda: scaled(40.0),
            sgd(0.1),
            "saturation",
            also=("init-large", "time-exploding"),
        ),
        case("long-default-adam", LONG, net, adam(2e-3, clip_norm=1.0), "time-vanishing", **gone),
        case("long-default-sgd", LONG, net, sgd(0.5), "time-vanishing", shown=4, **gone),
        case("long-forget-1", LONG, lambda: net(1.0), adam(2e-3), "time-vanishing", **gone),
        case("long-forget-keep", LONG, lambda: net(keep), adam(3e-3, steps=600)),
        case("long-chrono", LONG, lambda: chrono(80), adam(6e-3, steps=900)),
        case("long-chrono-fast", LONG, lambda: chrono(80), rmsprop(0.2), "rate-high"),
        case("very-default", VERY, net, rmsprop(1e-3, steps=300), "time-vanishing", **gone),
        case("very-keep", VERY, lambda: net(keep), adam(5e-3, steps=400)),
    ]
