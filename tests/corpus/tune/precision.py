"""Half precision: mixed, where the weights stay as they were, and pure, where all is halved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.tune._common import (
    DIGITS,
    HE,
    adam,
    adamw,
    digits,
    gain,
    lazily,
    mlp,
    pretrained,
    sgd,
    started,
)


def halved() -> tuple[Tensor, Tensor]:
    x, y = digits()
    return x.half(), y


def brained() -> tuple[Tensor, Tensor]:
    x, y = digits()
    return x.bfloat16(), y


def counted() -> tuple[Tensor, Tensor]:
    """The images in units of which a pixel has many thousands."""
    x, y = digits()
    return x * 40000, y


HALF = Task("digits-half", "cross_entropy", lazily(halved, 32), same_as="digits")
BRAIN = Task("digits-brain", "cross_entropy", lazily(brained, 32), same_as="digits")
COUNTS = Task("digits-counts", "cross_entropy", lazily(counted, 32), same_as="digits")


def net(depth: int = 3, width: int = 48, size: float = 2**0.5) -> nn.Sequential:
    return started(mlp([64, *[width] * depth, 10], nn.ReLU), gain(size))


def normed(kind: str = "batch") -> nn.Sequential:
    """A normalization takes away whatever size the inputs have."""
    norm = nn.BatchNorm1d(48) if kind == "batch" else nn.LayerNorm(48)
    rest = started(mlp([48, 48, 10], nn.ReLU), HE)
    return nn.Sequential(nn.Linear(64, 48, bias=False), norm, nn.ReLU(), *rest)


class RMSNorm(nn.Module):
    """As one writes it oneself: squares in the precision of what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x / (x * x).mean(-1, keepdim=True).add(1e-5).sqrt()


class Stream(nn.Module):
    """Blocks that add to a stream without end, each reading it normalized; so does the head."""

    def __init__(self, depth: int, size: float, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.norms = nn.ModuleList(norm(32) for _ in range(depth + 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(depth)
        )
        started(self.blocks, HE)
        with torch.no_grad():
            for block in self.blocks:
                block[2].weight.mul_(size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, block in zip(self.norms, self.blocks, strict=False):
            x = x + block(norm(x))
        return self.head(self.norms[-1](x))


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = DIGITS,
    **more: Any,
) -> Case:
    return Case(f"precision/{name}", task, build, recipe, fault, **more)


def mixed() -> list[Case]:
    """Autocast: maps in half, sums of squares and losses in full."""
    half, brain = {"precision": "fp16"}, {"precision": "bf16"}
    low = ("input-scale",)
    return [
        case("fp16-adam", net, adam(1e-3, **half)),
        case("fp16-momentum", lambda: net(5), sgd(0.02, momentum=0.9, **half), shown=4),
        case("bf16-adam", lambda: net(4), adamw(1e-3, **brain), shown=16),
        case("bf16-sgd", net, sgd(0.05, **brain)),
        case("fp16-counts", normed, adam(1e-3, **half), "precision", task=COUNTS, also=low),
        case("bf16-counts", normed, adam(1e-3, **brain), task=COUNTS),
        case("fp32-counts", normed, adam(1e-3), task=COUNTS),
        case(
            "fp16-counts-layernorm",
            lambda: normed("layer"),
            adam(1e-3, **half),
            "precision",
            task=COUNTS,
            also=low,
        ),
        case("fp32-counts-layernorm", lambda: normed("layer"), adam(1e-3), task=COUNTS, shown=2),
        case("fp16-stream", lambda: Stream(6, 1.0, nn.LayerNorm), adam(1e-3, **half)),
        case(
            "fp16-stream-large",
            lambda: Stream(4, 3e4, nn.LayerNorm),
            adam(2e-3, **half),
            "precision",
            also=("init-large",),
        ),
        case("fp32-stream-large", lambda: Stream(4, 3e4, nn.LayerNorm), adam(2e-3)),
        case("bf16-stream-large", lambda: Stream(4, 3e4, nn.LayerNorm), adam(2e-3, **brain)),
        case(
            "fp16-deep-gain",
            lambda: net(12, size=4.0),
            adam(1e-3, **half),
            "precision",
            also=("init-large", "depth-exploding"),
        ),
        case("fp16-rate-low", net, adam(1e-6, **half), "rate-low"),
        case("fp16-rate-high", net, adam(0.3, **half), "rate-high"),
        case(
            "fp16-deep-small",
            lambda: net(12, size=0.5),
            sgd(0.05, **half),
            "init-small",
            also=("depth-vanishing",),
        ),
        case(
            "bf16-checkpoint", lambda: pretrained(net(), DIGITS), sgd(0.01, momentum=0.9, **brain)
        ),
    ]


def pure() -> list[Case]:
    """Weights, gradients and the optimizer's own state in half."""
    half = {"precision": "fp16"}
    brain = {"precision": "bf16"}
    return [
        case(
            "half-adam",
            lambda: net().half(),
            adam(1e-3, **half),
            "eps",
            task=HALF,
            also=("precision",),
        ),
        case("half-adam-eps", lambda: net().half(), adam(1e-3, eps=1e-4, **half), task=HALF),
        case(
            "half-adamw",
            lambda: net(4).half(),
            adamw(3e-4, **half),
            "eps",
            task=HALF,
            also=("precision",),
        ),
        case(
            "half-adamw-eps",
            lambda: net(4).half(),
            adamw(2e-3, eps=1e-3, **half),
            task=HALF,
            shown=4,
        ),
        case("half-sgd", lambda: net().half(), sgd(0.05, **half), task=HALF),
        case(
            "half-sgd-1e-3",
            lambda: net().half(),
            sgd(5e-4, momentum=0.9, steps=1000, **half),
            "precision",
            task=HALF,
            also=("rate-low",),
        ),
        case(
            "half-rms",
            lambda: Stream(3, 300.0, RMSNorm).half(),
            sgd(0.02, **half),
            "precision",
            task=HALF,
            also=("init-large",),
        ),
        case(
            "half-rms-small", lambda: Stream(3, 1.0, RMSNorm).half(), sgd(0.02, **half), task=HALF
        ),
        case(
            "brain-sgd-low",
            lambda: net().bfloat16(),
            sgd(2e-3, steps=1200, **brain),
            "precision",
            task=BRAIN,
            also=("rate-low",),
        ),
        case("full-adam-5e-5", net, adam(5e-5, steps=1200)),
        case("full-sgd-low", net, sgd(2e-3, steps=1200)),
        case("brain-sgd", lambda: net().bfloat16(), sgd(0.1, **brain), task=BRAIN, shown=16),
        case("brain-adam", lambda: net().bfloat16(), adam(1e-3, **brain), task=BRAIN),
        case(
            "brain-adam-5e-5",
            lambda: net().bfloat16(),
            adam(5e-5, steps=1200, **brain),
            "precision",
            task=BRAIN,
            also=("rate-low",),
        ),
    ]


def cases() -> list[Case]:
    return [*mixed(), *pure()]
