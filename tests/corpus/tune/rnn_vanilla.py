"""Plain recurrent nets, tanh and ReLU: short and long memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import adam, frozen, pretrained, rmsprop, sgd, zeroed
from tests.corpus.tune._sequences import Reader, adding, echo, recall

ECHO, FAR = echo(20, 2), echo(30, 10)
NEAR, LONG = recall(10), recall(60)
ADDING = adding(16)


def net(
    task: Task,
    circle: float | str | None = None,
    relu: bool = False,
    width: int = 32,
    size: float | None = None,
) -> Reader:
    """``circle``: orthogonal, multiple of the identity, or torch's own; ``size`` of input maps."""
    every = task.name.startswith("echo")
    inputs = {"e": 4, "r": 5, "a": 2}[task.name[0]]
    kind = "relu" if relu else "tanh"
    layer = nn.RNN(inputs, width, nonlinearity=kind, batch_first=True)
    model = Reader(layer, 1 if task.name.startswith("adding") else 4, every)
    if circle == "orthogonal":
        nn.init.orthogonal_(layer.weight_hh_l0)
    elif circle is not None:
        with torch.no_grad():
            layer.weight_hh_l0.copy_(float(circle) * torch.eye(width))
    if size is not None:
        nn.init.normal_(layer.weight_ih_l0, std=size)
    if circle is not None:
        nn.init.zeros_(layer.bias_ih_l0)
        nn.init.zeros_(layer.bias_hh_l0)
    return model


def chaotic(task: Task, size: float) -> Reader:
    model = net(task, "orthogonal")
    with torch.no_grad():
        model.layer.weight_hh_l0.mul_(size)
    return model


def reservoir(task: Task) -> nn.Module:
    """Recurrent weights that stay as they were drawn, under a trained head."""
    model = net(task, "orthogonal", width=96, size=0.3)
    return frozen(model, model.head)


def zero_head(task: Task) -> nn.Module:
    model = net(task, "orthogonal")
    return zeroed(model, model.head)


def case(
    name: str,
    task: Task,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    **more: Any,
) -> Case:
    return Case(f"rnn/{name}", task, build, recipe, fault, **more)


def short() -> list[Case]:
    """Two steps of memory: anything goes that moves at all."""
    return [
        case("echo-default-adam", ECHO, lambda: net(ECHO), adam(3e-3)),
        case("echo-orthogonal-sgd", ECHO, lambda: net(ECHO, "orthogonal"), sgd(0.3, momentum=0.9)),
        case("echo-relu-adam", ECHO, lambda: net(ECHO, 0.5, relu=True), adam(3e-3), shown=4),
        case("echo-reservoir", ECHO, lambda: reservoir(ECHO), adam(1e-2)),
        case("echo-zero-head", ECHO, lambda: zero_head(ECHO), rmsprop(1e-3), shown=2),
        case("echo-sgd-slow", ECHO, lambda: net(ECHO), sgd(1e-3), "rate-low"),
        case("echo-adam-1", ECHO, lambda: net(ECHO), adam(0.5), "rate-high"),
        case("echo-clip", ECHO, lambda: net(ECHO), sgd(0.3, clip_norm=1e-3), "clip-tight"),
        case(
            "echo-large-inputs",
            ECHO,
            lambda: net(ECHO, "orthogonal", size=30.0),
            sgd(0.1),
            "saturation",
            also=("init-large",),
        ),
        case("echo-checkpoint", ECHO, lambda: pretrained(net(ECHO), ECHO, 5e-3, 300), adam(1e-3)),
        case("near-default", NEAR, lambda: net(NEAR, width=48), adam(2e-3, steps=1200), shown=16),
        case(
            "near-relu-1.5",
            NEAR,
            lambda: net(NEAR, 1.5, relu=True),
            sgd(0.1),
            "time-exploding",
            also=("clip-missing", "init-large", "rate-high"),
        ),
        case(
            "near-relu-1.2-clip", NEAR, lambda: net(NEAR, 1.2, relu=True), sgd(0.05, clip_norm=1.0)
        ),
        case(
            "near-decay",
            NEAR,
            lambda: net(NEAR, "orthogonal"),
            sgd(0.1, momentum=0.9, weight_decay=0.05),
            "weight-decay",
        ),
    ]


def long() -> list[Case]:
    """Memory over many steps: the common answer is learned at once, the rest may never be."""
    gone = ("init-small", "depth-vanishing")
    burst = ("clip-missing", "init-large", "rate-high", "depth-exploding")
    return [
        case("far-default-adam", FAR, lambda: net(FAR), adam(1e-3), "time-vanishing", also=gone),
        case(
            "far-orthogonal", FAR, lambda: net(FAR, "orthogonal", width=64), adam(2e-3, steps=800)
        ),
        case("long-default-sgd", LONG, lambda: net(LONG), sgd(0.1), "time-vanishing", also=gone),
        case(
            "long-default-adam",
            LONG,
            lambda: net(LONG),
            adam(1e-3, clip_norm=1.0),
            "time-vanishing",
            also=gone,
        ),
        case(
            "long-identity-relu",
            LONG,
            lambda: net(LONG, 1.0, relu=True, size=0.05),
            adam(1e-3, clip_norm=1.0, steps=500),
        ),
        case(
            "long-orthogonal",
            LONG,
            lambda: net(LONG, "orthogonal", size=0.05),
            adam(1e-3, steps=500),
        ),
        case(
            "long-relu-1.05",
            LONG,
            lambda: net(LONG, 1.05, relu=True, size=0.1),
            sgd(0.05),
            "time-exploding",
            also=burst,
        ),
        case(
            "long-relu-1.3-adam",
            LONG,
            lambda: net(LONG, 1.3, relu=True),
            adam(1e-3),
            "time-exploding",
            also=burst,
        ),
        case(
            "long-chaotic",
            LONG,
            lambda: chaotic(LONG, 3.0),
            sgd(0.1),
            "time-exploding",
            also=(*burst, "saturation"),
        ),
        case(
            "long-chaotic-clip",
            LONG,
            lambda: chaotic(LONG, 2.0),
            adam(1e-3, clip_norm=1.0),
            "time-exploding",
            also=(*burst, "saturation"),
        ),
        case(
            "adding-identity",
            ADDING,
            lambda: net(ADDING, 1.0, relu=True, size=0.1),
            adam(2e-3, steps=800),
        ),
        case(
            "adding-relu-0.5",
            ADDING,
            lambda: net(ADDING, 0.5, relu=True),
            sgd(0.01),
            "time-vanishing",
            also=gone,
        ),
        case(
            "adding-default-sgd",
            ADDING,
            lambda: net(ADDING),
            sgd(0.01),
            "time-vanishing",
            also=gone,
        ),
        case(
            "adding-relu-1.3",
            ADDING,
            lambda: net(ADDING, 1.3, relu=True),
            sgd(0.1),
            "time-exploding",
            also=burst,
        ),
    ]


def cases() -> list[Case]:
    return [*short(), *long()]
