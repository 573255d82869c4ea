"""A kind of model file, made by its own real tool, and what an audit of it has to measure."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

import tests.kinds

Measured = Literal["layers", "Jacobian", "weights", "rehearsal", "fix"]
ALL: tuple[Measured, ...] = ("layers", "Jacobian", "weights", "rehearsal", "fix")


@dataclass(frozen=True)
class Kind:
    """A row of the README's table; a module of this package names its own ``KINDS``."""

    title: str  # as the table says it
    make: Callable[[Path], Path]  # writes one into an empty folder and returns what to audit
    format: str  # `subject.format` of the report
    measured: tuple[Measured, ...] = ALL
    options: tuple[str, ...] = ()  # what the user adds, beside a recipe and the data
    # the sample (x, y) that goes with it; None where the file brings its own or there is no model
    data: Callable[[], dict[str, torch.Tensor]] | None = None
    order: int = 100  # in the table
    # environment variables of a process of its own, where this one must not load what it takes
    environment: Callable[[Path], dict[str, str]] | None = None


def net() -> nn.Sequential:
    """Ten tanh layers of torch's own whose weights are three times too large."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Linear(16, 16), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(16, 1))
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.weight.mul_(6.0)
    return model


def data() -> dict[str, torch.Tensor]:
    """A sample for :func:`net`."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 16, generator=generator)
    return {"x": x, "y": x[:, :1] - x[:, 1:2]}


CODE = """\
import torch
from torch import nn


def build():
    layers = []
    for _ in range(10):
        layers += [nn.Linear(16, 16), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(16, 1))
"""  # what --build names, for the weights of `net`


def kinds() -> tuple[Kind, ...]:
    """Every kind that a module of this package names, in the table's order."""
    return tuple(sorted(_found(), key=lambda kind: (kind.order, kind.title)))


def _found() -> Iterator[Kind]:
    for info in pkgutil.iter_modules(tests.kinds.__path__):
        if info.name.startswith("test_"):
            continue
        module = importlib.import_module(f"tests.kinds.{info.name}")
        yield from getattr(module, "KINDS", ())
