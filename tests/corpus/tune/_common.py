"""Recipes, starts, layers and data that several families share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Pair, Task, epochs

Start = Callable[[Tensor], object]


def sgd(lr: float, **more: Any) -> Recipe:
    return Recipe("sgd", lr=lr, **{"steps": 400, **more})


def adam(lr: float, **more: Any) -> Recipe:
    return Recipe("adam", lr=lr, **{"steps": 400, **more})


def adamw(lr: float, **more: Any) -> Recipe:
    return Recipe("adamw", lr=lr, **{"steps": 400, **more})


def rmsprop(lr: float, **more: Any) -> Recipe:
    return Recipe("rmsprop", lr=lr, **{"steps": 400, **more})


def gain(value: float) -> Start:
    """Normal weights whose outputs have ``value`` times the inputs' size."""
    return lambda weight: nn.init.normal_(weight, std=value / weight[0].numel() ** 0.5)


def normal(std: float) -> Start:
    return lambda weight: nn.init.normal_(weight, std=std)


HE, LECUN = gain(2**0.5), gain(1.0)


def started(model: nn.Module, start: Start | None, bias: float = 0.0) -> nn.Module:
    """The model with all its linear maps and convolutions started anew; None: as torch does it."""
    for module in model.modules() if start else ():
        if isinstance(module, nn.Linear | nn.Conv2d):
            start(module.weight)
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)
    return model


def stack(sizes: Sequence[int], act: Callable[[], nn.Module]) -> list[nn.Module]:
    """Linear maps from size to size, each followed by an activation."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return layers


def mlp(sizes: Sequence[int], act: Callable[[], nn.Module]) -> nn.Sequential:
    """A plain net; the last map has no activation."""
    return nn.Sequential(*stack(sizes[:-1], act), nn.Linear(sizes[-2], sizes[-1]))


def zeroed(model: nn.Module, *linears: nn.Linear) -> nn.Module:
    """The model, with some of its maps at zero."""
    for linear in linears:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return model


def frozen(model: nn.Module, *trained: nn.Module) -> nn.Module:
    """The model, of which only some parts are trained."""
    model.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
    return model


def pretrained(model: nn.Module, task: Task, lr: float = 1e-3, steps: int = 200) -> nn.Module:
    """The model after some training of its own, as a checkpoint would give it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for inputs, target in task.take(4242, steps):
        optimizer.zero_grad()
        task.measure(model(inputs), target).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def lazily(load: Callable[[], Pair], batch: int) -> Callable[[int], Iterator[Pair]]:
    """A stream over a data set that is loaded when the first batch is asked for."""

    def stream(seed: int) -> Iterator[Pair]:
        yield from epochs(*load(), batch)(seed)

    return stream


@cache
def digits() -> tuple[Tensor, Tensor]:
    """1,797 images of 8 x 8 pixels between -1 and 1, as rows, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 8 - 1, dtype=torch.float32), torch.tensor(y)


DIGITS = Task("digits", "cross_entropy", lazily(digits, 32))
