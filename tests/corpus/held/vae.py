"""Variational autoencoders on the digits: squared error and the divergence from a unit normal."""

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
    digits,
    frozen,
    lazily,
    mlp,
    pretrained,
    rmsprop,
    sgd,
    started,
)


@cache
def grey(factor: float) -> tuple[Tensor, Tensor]:
    x = digits()[0] / 16 * factor
    return x, x


Output = tuple[Tensor, Tensor, Tensor]


def bound(output: Output, target: Tensor) -> Tensor:
    """Of a Gaussian with a variance of 1/10, up to a constant; per picture."""
    made, mean, logvar = output
    error = 5.0 * (made - target).square().sum(1)
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)
    return (error + divergence).mean()


def loose(output: Output, target: Tensor) -> Tensor:
    """The mean over the pixels, and a hundredth of the divergence."""
    made, mean, logvar = output
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return (made - target).square().mean() + 0.01 * divergence


# The digits' variance, summed over the pixels, is 4.695: what the best constant picture costs.
VAE = Task("vae", bound, lazily(lambda: grey(1.0), 32), constant=5 * 4.695)
LOOSE = Task("vae-loose", loose, lazily(lambda: grey(1.0), 32), constant=4.695 / 64)
BYTES = Task("vae-bytes", bound, lazily(lambda: grey(255.0), 32), 5 * 4.695 * 255**2, "vae")
LOOSE_BYTES = Task(
    "vae-loose-bytes", loose, lazily(lambda: grey(255.0), 32), 4.695 / 64 * 255**2, "vae-loose"
)


class Coder(nn.Module):
    """Mean and log-variance of a small code, a draw of it, and what is made of that."""

    def __init__(self, code: int = 6, depth: int = 1, width: int = 48, act: Any = nn.ReLU) -> None:
        super().__init__()
        self.code = code
        self.encoder = mlp([64, *[width] * depth, 2 * code], act)
        self.decoder = mlp([code, *[width] * depth, 64], act)

    def forward(self, x: Tensor) -> Output:
        mean, logvar = self.encoder(x).split(self.code, 1)
        drawn = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        return self.decoder(drawn), mean, logvar


def net(depth: int = 1, act: Any = nn.ReLU) -> Build:
    return lambda: Coder(depth=depth, act=act)


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"vae/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """Scale of the pictures, rate, and depth."""
    units = ("target-scale", "rate-high")
    return [
        case("adam", VAE, net(), adam(3e-3, 1000)),
        case("two-adamw", VAE, net(2), adamw(2e-3, 1000, weight_decay=0.01), shown=16),
        case("sgd", VAE, net(), sgd(1e-3, 1200)),
        case("loose-adam", LOOSE, net(), adam(5e-3, 900)),
        case("loose-rmsprop", LOOSE, net(2), rmsprop(1e-3, 900), shown=2),
        case("gone-on-with", VAE, pretrained(net(), VAE, 500), adam(5e-4, 500), shown=4),
        case("two-clip-1", VAE, started(net(2), 1.4), adam(2e-3, 1000, clip_norm=1.0)),
        case("bytes-adam", BYTES, net(2), adam(1e-3, 500), "input-scale", also=units),
        case("bytes-sgd", BYTES, net(), sgd(1e-3, 500), "input-scale", also=units),
        case("loose-bytes", LOOSE_BYTES, net(), adam(1e-3, 600), "input-scale", also=units),
        case("sgd-0.1", VAE, net(), sgd(0.1, 500), "rate-high"),
        case("adam-0.2", VAE, net(2), adam(0.2, 500), "rate-high"),
        case("loose-sgd-0.01", LOOSE, net(2), sgd(0.01, 900), "rate-low", shown=16),
        case("gain-4", VAE, started(net(2), 4.0), adam(1e-3, 600), "init-large"),
        case("six-sigmoid", VAE, net(6, nn.Sigmoid), adam(1e-3, 600), "depth-vanishing"),
        case("clip-2e-3", VAE, net(), sgd(1e-2, 800, clip_norm=2e-3), "clip-tight"),
        case("loose-decay", LOOSE, net(), adam(3e-3, 700, weight_decay=0.1), "weight-decay"),
        case("frozen-decoder", VAE, frozen(net(), ("decoder",)), adam(3e-3, 700), "frozen"),
    ]
