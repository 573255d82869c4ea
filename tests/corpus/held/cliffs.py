"""Recurrent nets of rectifiers that add up marked numbers: their gradients have cliffs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gradaudit.records import Recipe
from tests.corpus.case import Case, Pair, Task, drawn
from tests.corpus.held._kit import Build, Recurrent, adam, pretrained, rmsprop, sgd

LENGTH = 20


def sums(generator: torch.Generator) -> Pair:
    """Twenty numbers, of which some four are marked: their sum."""
    x = torch.randn(32, LENGTH, generator=generator)
    marked = (torch.rand(32, LENGTH, generator=generator) < 4 / LENGTH).float()
    return torch.stack([x, marked], 2), (x * marked).sum(1, keepdim=True)


SUMS = Task("sums", "mse", drawn(sums))


def rnn(gain: float, inputs: int = 2, kind: str = "relu", hidden: int = 32) -> Build:
    """The state is carried over by a multiple of the identity, and a little noise."""

    def made() -> nn.Module:
        cell = nn.RNN(inputs, hidden, nonlinearity=kind, batch_first=True)
        nn.init.eye_(cell.weight_hh_l0)
        with torch.no_grad():
            cell.weight_hh_l0 += 0.02 * torch.randn(hidden, hidden)
            cell.weight_hh_l0 *= gain
            cell.bias_hh_l0.zero_()
            cell.bias_ih_l0.zero_()
        return Recurrent(nn.Identity(), cell, nn.Linear(hidden, 1), whole=False)

    return made


def case(name: str, task: Task, build: Build, recipe: Recipe, fault: str = "", **more: Any) -> Case:
    return Case(f"cliffs/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    """The gain of the recurrent weights, with clipping and without."""
    grows, high = "time-exploding", ("rate-high", "time-exploding", "init-large")
    return [
        case("clip-1", SUMS, rnn(1.0), sgd(0.01, 600, clip_norm=1.0)),
        case("adam-clip", SUMS, rnn(1.0), adam(2e-3, 500, clip_norm=1.0), shown=4),
        case("clip-5-adam-fast", SUMS, rnn(1.0), adam(1e-2, 600, clip_norm=5.0)),
        case("rmsprop", SUMS, rnn(0.97), rmsprop(1e-3, 500), shown=2),
        case("gone-on-with", SUMS, pretrained(rnn(0.97), SUMS, 300), adam(5e-4, 300), shown=4),
        case("no-clip", SUMS, rnn(1.0), sgd(0.01, 600), "clip-missing", also=high),
        case("no-clip-0.03", SUMS, rnn(0.97), sgd(0.03, 600), "clip-missing", also=high, shown=16),
        case("no-clip-warm", SUMS, rnn(1.0), sgd(0.02, 600, warmup=400), "clip-missing", also=high),
        case("gain-1.5", SUMS, rnn(1.5), sgd(1e-3, 500), grows, also=("init-large",), shown=4),
        case("gain-1.8", SUMS, rnn(1.8), adam(1e-3, 500), grows, also=("init-large",)),
        case("gain-0.3", SUMS, rnn(0.3, kind="tanh"), sgd(0.01, 500), "time-vanishing", shown=4),
        case("clip-1e-3", SUMS, rnn(1.0), sgd(0.01, 500, clip_norm=1e-3), "clip-tight"),
    ]
