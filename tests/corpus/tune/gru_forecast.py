"""Forecasts of an hourly load from the day before, in megawatts or standardized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task
from tests.corpus.tune._common import adam, adamw, frozen, rmsprop, sgd
from tests.corpus.tune._sequences import Reader

WINDOW = 24
Affine = tuple[float, float]  # shift and scale of what has a mean of 0 and a deviation of 1
PLAIN: Affine = (0.0, 1.0)


@cache
def load() -> Tensor:
    """Days, weeks and weather: 4,000 hours."""
    generator = torch.Generator().manual_seed(8)
    hour = torch.arange(4000.0)
    day, week = hour * (2 * torch.pi / 24), hour * (2 * torch.pi / 168)
    steps = torch.randn(4000, generator=generator)
    weather = [torch.zeros(())]
    for step in steps:
        weather.append(0.95 * weather[-1] + 0.2 * step)
    x = day.sin() + 0.4 * (2 * day).cos() + 0.5 * week.sin() + torch.stack(weather[1:])
    return (x - x.mean()) / x.std()


def windows(ahead: int, inputs: Affine, target: Affine) -> Callable[[int], Iterator[Pair]]:
    """A day of hours, and the hour ``ahead`` of its last."""

    def stream(seed: int) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(seed)
        series = load()
        while True:
            at = torch.randint(0, 4000 - WINDOW - ahead, (32, 1), generator=generator)
            x = series[at + torch.arange(WINDOW)][:, :, None]
            y = series[at + WINDOW - 1 + ahead]
            yield inputs[0] + inputs[1] * x, target[0] + target[1] * y

    return stream


def task(name: str, inputs: Affine = PLAIN, target: Affine = PLAIN, ahead: int = 6) -> Task:
    same = "" if name == "load" else "load"
    return Task(name, "mse", windows(ahead, inputs, target), same_as=same)


LOAD = task("load")
MEGA = task("load-mw", (30000.0, 8000.0), (30000.0, 8000.0))
KILO = task("load-target-1e3", target=(4000.0, 1000.0))
INPUTS = task("load-inputs-1e4", inputs=(0.0, 1e4))
WATTS = task("load-target-1e5", target=(0.0, 1e5))
SHIFTED = task("load-inputs-shifted", inputs=(50.0, 1.0))
SMALL = task("load-small", target=(0.0, 1e-3))


def net(width: int = 24, layers: int = 1) -> Reader:
    return Reader(nn.GRU(1, width, layers, batch_first=True), 1)


def head_only() -> nn.Module:
    model = net(64)
    return frozen(model, model.head)


def scaled(size: float) -> nn.Module:
    model = net()
    with torch.no_grad():
        for parameter in model.layer.parameters():
            parameter.mul_(size)
    return model


class Scaled(nn.Module):
    """The net between a scaling of the inputs and one of the output, as is good practice."""

    def __init__(self, shift: float, scale: float) -> None:
        super().__init__()
        self.net, self.shift, self.scale = net(), shift, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.shift) / self.scale) * self.scale + self.shift


def case(
    name: str,
    task: Task,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    **more: Any,
) -> Case:
    return Case(f"load/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    target = {"also": ("rate-low",)}
    hot = {"also": ("rate-high", "clip-missing")}
    inputs = {"also": ("saturation",)}
    return [
        case("scaled-adam", LOAD, net, adam(5e-3, steps=600)),
        case("scaled-sgd", LOAD, net, sgd(0.1, momentum=0.9, steps=600), shown=4),
        case("scaled-two-layers", LOAD, lambda: net(16, 2), rmsprop(3e-3), shown=16),
        case("scaled-warm", LOAD, net, adamw(3e-3, warmup=100, weight_decay=0.01)),
        case("scaled-head-only", LOAD, head_only, adam(2e-2), "frozen"),
        case("scaled-sgd-1e-5", LOAD, net, sgd(1e-5), "rate-low"),
        case("scaled-adam-2", LOAD, net, adam(2.0), "rate-high", shown=2),
        case("scaled-clip", LOAD, net, sgd(0.1, clip_norm=1e-3), "clip-tight"),
        case("scaled-decay", LOAD, net, sgd(0.1, momentum=0.9, weight_decay=0.1), "weight-decay"),
        case("scaled-large-start", LOAD, partial(scaled, 60.0), sgd(0.05), "init-large", **inputs),
        case("scaled-late", LOAD, net, adam(1.0, warmup=350), "rate-high"),
        case(
            "mw-adam-1e-3", MEGA, net, adam(1e-3), "target-scale", also=("input-scale", "rate-low")
        ),
        case("mw-sgd", MEGA, net, sgd(0.01), "target-scale", also=("input-scale", *hot["also"])),
        case(
            "mw-adam-clip",
            MEGA,
            net,
            adam(3e-3, clip_norm=1.0),
            "target-scale",
            also=("input-scale", "rate-low"),
        ),
        case(
            "mw-adam-30",
            MEGA,
            net,
            adam(30.0, steps=600),
            "input-scale",
            also=("saturation", "target-scale", "rate-high"),
        ),
        case("mw-scaled-inside", MEGA, lambda: Scaled(30000.0, 8000.0), adam(5e-3), shown=4),
        case("kilo-adam-1e-2", KILO, net, adam(1e-2), "target-scale", **target),
        case("kilo-adam-0.5", KILO, net, adam(0.5), "target-scale", **hot),
        case("kilo-sgd", KILO, net, sgd(0.05), "target-scale", **hot),
        case(
            "kilo-sgd-1e-3-clip",
            KILO,
            net,
            sgd(1e-2, clip_norm=10.0),
            "target-scale",
            also=("clip-tight", "rate-low"),
        ),
        case("watts-adam", WATTS, net, adam(1e-2), "target-scale", **target),
        case("inputs-adam", INPUTS, net, adam(1e-2), "input-scale", **inputs),
        case("inputs-sgd", INPUTS, net, sgd(0.1), "input-scale", **inputs),
        case("shifted-sgd", SHIFTED, net, sgd(0.05), "input-scale", **inputs),
        case(
            "shifted-adam", SHIFTED, lambda: net(48), adam(1e-2, steps=600), "input-scale", **inputs
        ),
        case("small-adam", SMALL, net, adam(5e-4, steps=600), "target-scale"),
        case("small-sgd", SMALL, net, sgd(0.1, momentum=0.9), "target-scale"),
    ]
