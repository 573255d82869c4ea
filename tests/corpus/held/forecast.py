"""The next value of a series: seasons, a trend and noise, in units of its own or standardised."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task
from tests.corpus.held._kit import (
    Build,
    Pick,
    Recurrent,
    adam,
    adamw,
    last,
    lazily,
    mlp,
    rmsprop,
    rng,
    sgd,
    started,
)

WINDOW = 30


@cache
def series() -> Tensor:
    """Daily counts of some three years: week, year, two beats, and noise; about 380 to 620."""
    t = torch.arange(1100.0)
    wave = (
        torch.sin(2 * math.pi * t / 7)
        + 0.8 * torch.sin(2 * math.pi * t / 11.3 + 1)
        + 0.6 * torch.sin(2 * math.pi * t / 365)
    )
    return 500 + 45 * (wave + 0.15 * torch.randn(1100, generator=rng(5)))


def windows(factor: float, shift: float, column: bool = False) -> tuple[Tensor, Tensor]:
    """Windows of 30 days and the day after, standardised and then scaled."""
    s = series()
    s = (s - s.mean()) / s.std() * factor + shift
    x = s.unfold(0, WINDOW, 1)[:-1]
    return (x[:, :, None] if column else x), s[WINDOW:, None]


def task(name: str, factor: float, shift: float, column: bool, loss: str = "mse") -> Task:
    made = cache(lambda: windows(factor, shift, column))
    return Task(name, loss, lazily(made, 32), same_as="series" if loss == "mse" else "")


FLAT = task("series", 1.0, 0.0, False)
STEPS = task("series-steps", 1.0, 0.0, True)
RAW = task("series-raw", 52.0, 500.0, False)
RAW_STEPS = task("series-raw-steps", 52.0, 500.0, True)
MILLIONS = task("series-millions", 4e5, 6e6, False)
L1_STEPS = task("series-l1", 1.0, 0.0, True, "l1")


class Turned(nn.Module):
    """Time last, as convolutions want it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def lstm(hidden: int = 24, layers: int = 1) -> Build:
    def made() -> nn.Module:
        rnn = nn.LSTM(1, hidden, layers, batch_first=True)
        return Recurrent(nn.Identity(), rnn, nn.Linear(hidden, 1), whole=False)

    return made


def dense(depth: int = 2, width: int = 32) -> Build:
    return lambda: mlp([WINDOW, *[width] * depth, 1], nn.ReLU)


def tcn(levels: int = 4, width: int = 12) -> Build:
    """Convolutions whose holes double from level to level."""

    def made() -> nn.Module:
        layers: list[nn.Module] = [Turned()]
        for level in range(levels):
            hole = 2**level
            layers += [
                nn.ConstantPad1d((hole, 0), 0.0),
                nn.Conv1d(width if level else 1, width, 2, dilation=hole),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, Turned(), Pick(), nn.Linear(width, 1))

    return made


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"forecast/{name}", task, build, recipe, fault, **more)


def centred(linear: nn.Linear) -> None:
    """The head starts at the mean of the series."""
    nn.init.constant_(linear.bias, 500.0)


def sound() -> list[Case]:
    return [
        case("dense-adam", FLAT, dense(), adam(3e-3, 800)),
        case("dense-sgd", FLAT, dense(), sgd(0.01, 800), shown=4),
        case("lstm-adam", STEPS, lstm(), adam(1e-2, 600)),
        case("lstm-sgd", STEPS, lstm(), sgd(0.1, 800), shown=16),
        case("lstm-l1", L1_STEPS, lstm(), adam(1e-2, 600)),
        case("tcn-adam", STEPS, tcn(), adam(3e-3, 600)),
        case("tcn-rmsprop", STEPS, started(tcn(), 1.4), rmsprop(1e-3, 600), shown=2),
        case("dense-raw-adam", RAW, dense(), adam(1e-3, 1500)),
        case("dense-5-warm", FLAT, dense(5), adamw(3e-3, 700, warmup=250)),
    ]


def faulty() -> list[Case]:
    units = ("input-scale",)
    return [
        case(
            "lstm-raw-adam",
            RAW_STEPS,
            lstm(),
            adam(1e-2, 900),
            "input-scale",
            also=("target-scale",),
        ),
        case(
            "lstm-raw-centred",
            RAW_STEPS,
            last(lstm(), centred),
            adam(1e-2, 700),
            "input-scale",
            also=("target-scale", "saturation"),
        ),
        case(
            "lstm-raw-sgd", RAW_STEPS, lstm(), sgd(1e-3, 600), "input-scale", also=("target-scale",)
        ),
        case(
            "dense-raw-sgd",
            RAW,
            dense(),
            sgd(1e-3, 600),
            "target-scale",
            also=("input-scale", "rate-high"),
        ),
        case("dense-millions", MILLIONS, dense(), sgd(1e-3, 600), "target-scale", also=units),
        case("dense-rate-0.5", FLAT, dense(), sgd(0.5, 600), "rate-high"),
        case("dense-warm-into-1", FLAT, dense(3), sgd(1.0, 800, warmup=500), "rate-high", shown=16),
        case("tcn-adam-0.5", STEPS, tcn(), adam(0.5, 500), "rate-high"),
        case("dense-decay", FLAT, dense(), adam(3e-3, 700, weight_decay=8.0), "weight-decay"),
    ]


def cases() -> list[Case]:
    """LSTM, windows, and convolutions over time."""
    return sound() + faulty()
