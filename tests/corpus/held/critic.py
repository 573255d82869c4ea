"""Critics that tell drawn samples from imitations, as half of a pair of adversaries would."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    adam,
    digits,
    each,
    frozen,
    lazily,
    mlp,
    pretrained,
    rmsprop,
    rng,
    sgd,
    started,
    times,
)


@cache
def forged(factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """Digits, and blends of two digits: 1 and 0."""
    x = digits()[0][:1600] / 8 - 0.6
    generator = rng(77)
    other = x[torch.randperm(1600, generator=generator)]
    share = 0.3 + 0.4 * torch.rand(1600, 1, generator=generator)
    both = torch.cat([x, share * x + (1 - share) * other])
    return both * factor, torch.cat([torch.ones(1600, 1), torch.zeros(1600, 1)])


@cache
def rings(factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """Eight blots on a ring, and what an early generator makes of them: 1 and -1."""
    generator = rng(78)
    angle = torch.randint(0, 8, (1500,), generator=generator) * math.pi / 4
    real = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    real = real + 0.1 * torch.randn(1500, 2, generator=generator)
    fake = 1.6 * torch.randn(1500, 2, generator=generator)
    truth = torch.cat([torch.ones(1500, 1), -torch.ones(1500, 1)])
    return torch.cat([real, fake]) * factor, truth


def hinge(output: Tensor, target: Tensor) -> Tensor:
    return F.relu(1 - output * target).mean()


FORGED = Task("forged", "bce_with_logits", lazily(forged, 32), constant=math.log(2))
FORGED_BYTES = Task(
    "forged-bytes", "bce_with_logits", lazily(lambda: forged(2e3), 32), math.log(2), "forged"
)
RINGS = Task("rings", hinge, lazily(rings, 48), constant=1.0)
RINGS_FAR = Task("rings-far", hinge, lazily(lambda: rings(1e4), 48), 1.0, "rings")


def leaky(depth: int, width: int = 64, inputs: int = 64) -> Build:
    return lambda: mlp([inputs, *[width] * depth, 1], lambda: nn.LeakyReLU(0.2))


def spectral() -> nn.Module:
    model = leaky(3, 48)()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.utils.parametrizations.spectral_norm(module)
    return model


def dead(build: Build) -> Build:
    """Biases so low that no unit of the net is ever on."""
    return each(build, nn.Linear, lambda linear: linear.bias.fill_(-4.0))


def relu(depth: int, inputs: int = 2) -> Build:
    return lambda: mlp([inputs, *[48] * depth, 1], nn.ReLU)


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"critic/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Forged digits and rings."""
    two, flat = ("rate-high",), leaky(3, 48, 2)
    return [
        case("forged-adam", FORGED, leaky(3), adam(1e-3, 800, betas=(0.5, 0.999))),
        case("forged-sgd", FORGED, leaky(2), sgd(0.05, 1000), shown=16),
        case("forged-rmsprop", FORGED, leaky(2), rmsprop(1e-3, 900)),
        case("forged-gone-on-with", FORGED, pretrained(leaky(3), FORGED, 400), adam(2e-4, 400)),
        case("rings-adam", RINGS, flat, adam(3e-3, 900), shown=4),
        case("rings-sgd", RINGS, started(flat, 1.3), sgd(0.03, 1000)),
        case("rings-autocast", RINGS, flat, adam(3e-3, 700, precision="fp16"), shown=2),
        case("forged-bytes", FORGED_BYTES, leaky(3), sgd(0.02, 600), "input-scale", also=two),
        case("rings-far", RINGS_FAR, flat, sgd(0.01, 700), "input-scale", also=two),
        case("forged-dead", FORGED, dead(relu(3, 64)), adam(1e-3, 700), "dead-units"),
        case("rings-dead", RINGS, dead(relu(2)), sgd(0.05, 700), "dead-units", shown=4),
        case("rings-rate-5", RINGS, relu(3), sgd(5.0, 700), "rate-high", also=("dead-units",)),
        case("forged-adam-0.3", FORGED, leaky(3), adam(0.3, 600), "rate-high"),
        case("rings-decay", RINGS, flat, adam(3e-3, 700, weight_decay=0.5), "weight-decay"),
        case("rings-head", RINGS, frozen(flat, ("0", "2", "4")), sgd(0.01, 700), "frozen"),
        case("rings-small", RINGS, each(flat, nn.Linear, times(0.1)), sgd(0.01, 700), "init-small"),
        case("forged-clip", FORGED, leaky(3), sgd(0.05, 800, clip_norm=2e-3), "clip-tight"),
    ]
