"""Random nets whose growth has a closed form, and means over their initializations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.settings import Settings
from tests.subjects import opened

WIDTH = 200


def growths(
    build: Callable[[], nn.Module], shape: tuple[int, ...], *, count: int = 30
) -> list[Growth]:
    """The growth probe on ``count`` initializations, each with N(0, 1) input of its own."""
    found = []
    for seed in range(count):
        torch.manual_seed(1000 + seed)
        net = build()
        subject = opened(net, torch.randn(shape))
        found.append(measure_growth(subject, Settings(effort="quick", seed=seed)))
    return found


def log_gains(growth: Growth, skip: int) -> list[float]:
    """Log gain of every stage but the first ``skip`` and the head."""
    return [
        math.log(row.backward_gain.value)
        for row in growth.stages[skip:-1]
        if row.backward_gain is not None
    ]


def mean_log_growth(
    build: Callable[[], nn.Module], shape: tuple[int, ...], *, skip: int = 1, count: int = 30
) -> Tensor:
    """Mean log gain per interior stage, one value an initialization."""
    every = [log_gains(growth, skip) for growth in growths(build, shape, count=count)]
    return torch.tensor([sum(logs) / len(logs) for logs in every], dtype=torch.float64)


def agree(values: Tensor, expected: float, term: float) -> bool:
    """Whether the mean is ``expected`` within three standard errors and a finite-size ``term``."""
    error = float(values.std()) / math.sqrt(len(values))
    return abs(float(values.mean()) - expected) <= 3 * error + term


def dense(variance: float, width: int = WIDTH, *, bias: float | None = None) -> nn.Linear:
    """A square layer of weight variance ``variance / width`` and bias variance ``bias``."""
    layer = nn.Linear(width, width, bias=bias is not None)
    nn.init.normal_(layer.weight, std=math.sqrt(variance / width))
    if bias is not None:
        nn.init.normal_(layer.bias, std=math.sqrt(bias))
    return layer


def plain(
    phi: nn.Module,
    variance: float | None,
    *,
    width: int = WIDTH,
    depth: int = 6,
    norm: str = "",
    bias: float | None = None,
    outputs: int = 10,
) -> nn.Module:
    """``depth`` layers of dense, norm, activation; ``variance`` None is PyTorch's own."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        if variance is None:
            layers.append(nn.Linear(width, width, bias=False))
        else:
            layers.append(dense(variance, width, bias=bias))
        if norm:
            layers.append(nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width))
        layers.append(phi)
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class Residual(nn.Module):
    """Ten blocks ``x + scale * W2 relu(W1 norm(x))`` with variances 1/n and 2/n, then a head."""

    def __init__(self, *, norm: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.ModuleList(dense(1.0) for _ in range(10))
        self.second = nn.ModuleList(dense(2.0) for _ in range(10))
        self.norms = nn.ModuleList(
            nn.LayerNorm(WIDTH) if norm else nn.Identity() for _ in range(10)
        )
        self.head, self.scale = nn.Linear(WIDTH, 10), scale

    def forward(self, x: Tensor) -> Tensor:
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = x + self.scale * second(torch.relu(first(norm(x))))
        return self.head(x)
