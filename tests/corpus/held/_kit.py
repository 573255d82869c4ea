"""What the families of this half share: data of scikit-learn, plain nets, starts, recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Pair, Task, epochs

Build = Callable[[], nn.Module]


def lazily(make: Callable[[], Pair], batch: int) -> Callable[[int], Iterator[Pair]]:
    """Like ``epochs``, over data that is made when first asked for."""

    def stream(seed: int) -> Iterator[Pair]:
        return epochs(*make(), batch)(seed)

    return stream


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits of scikit-learn, 64 grey values in 0..16 each."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.tensor(bunch.data, dtype=torch.float32), torch.tensor(bunch.target)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(
    sizes: list[int], act: Callable[[], nn.Module], norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """Linear, norm if any, activation; the last layer is bare."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(fan_in, fan_out), *([norm(fan_out)] if norm else []), act()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def started(build: Build, gain: float, kinds: Any = (nn.Linear, nn.Conv1d, nn.Conv2d)) -> Build:
    """Normal weights of variance ``gain`` squared over fan-in, and zero biases."""

    def made() -> nn.Module:
        model = build()
        for module in model.modules():
            if isinstance(module, kinds):
                nn.init.normal_(module.weight, std=gain / module.weight[0].numel() ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return model

    return made


def each(build: Build, kind: Any, change: Callable[[Any], object]) -> Build:
    """Changes every module of a kind."""

    def made() -> nn.Module:
        model = build()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, kind):
                    change(module)
        return model

    return made


def last(build: Build, change: Callable[[nn.Linear], object]) -> Build:
    """Changes the last linear layer."""

    def made() -> nn.Module:
        model = build()
        with torch.no_grad():
            change([m for m in model.modules() if isinstance(m, nn.Linear)][-1])
        return model

    return made


def blank(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)


def times(factor: float) -> Callable[[Any], object]:
    return lambda module: module.weight.mul_(factor)


def frozen(build: Build, prefix: tuple[str, ...]) -> Build:
    """Parameters whose names start so are not trained."""

    def made() -> nn.Module:
        model = build()
        for name, parameter in model.named_parameters():
            if name.startswith(prefix):
                parameter.requires_grad_(False)
        return model

    return made


def pretrained(build: Build, task: Task, steps: int = 200, lr: float = 2e-3) -> Build:
    """A start that has seen some training: Adam, a seed of its own."""

    def made() -> nn.Module:
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        stream = task.stream(4321)
        for _ in range(steps):
            inputs, target = next(stream)
            optimizer.zero_grad()
            out = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
            task.measure(out, target).backward()
            optimizer.step()
        optimizer.zero_grad()
        return model

    return made


class Pick(nn.Module):
    """What comes of one position of a sequence: batch, time, features."""

    def __init__(self, at: int = -1) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.at]


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Recurrent(nn.Module):
    """Tokens or numbers in, all states or the last out, then a linear head."""

    def __init__(self, front: nn.Module, rnn: nn.Module, head: nn.Module, whole: bool) -> None:
        super().__init__()
        self.front, self.rnn, self.head, self.whole = front, rnn, head, whole

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(self.front(x))[0]
        return self.head(states if self.whole else states[:, -1])


def sgd(lr: float, steps: int = 600, momentum: float | None = 0.9, **more: Any) -> Recipe:
    return Recipe("sgd", lr=lr, momentum=momentum, steps=steps, **more)


def adam(lr: float, steps: int = 600, **more: Any) -> Recipe:
    return Recipe("adam", lr=lr, steps=steps, **more)


def adamw(lr: float, steps: int = 600, **more: Any) -> Recipe:
    return Recipe("adamw", lr=lr, steps=steps, **more)


def rmsprop(lr: float, steps: int = 600, **more: Any) -> Recipe:
    return Recipe("rmsprop", lr=lr, steps=steps, **more)
