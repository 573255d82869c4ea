"""Two claims kept apart: intervals hold this net's Jacobian; means agree with the closed forms."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from gradaudit.linalg.intervals import student_quantile
from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.growth import measure_growth
from gradaudit.records import Estimate
from gradaudit.settings import Settings
from tests.jacobians import chain_jacobians, in_float64, stage_jacobians
from tests.subjects import opened


def tanh_net(width: int = 32, depth: int = 4) -> list[nn.Module]:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers.append(nn.Sequential(nn.Linear(width, width), nn.Tanh()))
    return [*layers, nn.Linear(width, 5)]


def steep_net() -> list[nn.Module]:
    """A few directions carry most of the gradient: the hardest case for an interval."""
    torch.manual_seed(4)
    layers = tanh_net(width=24, depth=5)
    for layer in layers[:-1]:
        nn.init.normal_(layer[0].weight, std=0.5)  # type: ignore[index,arg-type]
    return layers


def batch_norm_net() -> list[nn.Module]:
    torch.manual_seed(5)
    return [
        *(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(3)),
        nn.Linear(16, 4),
    ]


def conv_net() -> list[nn.Module]:
    torch.manual_seed(6)
    return [
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GELU()),
        nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.GELU()),
        nn.Sequential(nn.Flatten(), nn.Linear(36, 6)),
    ]


def residual_net() -> list[nn.Module]:
    torch.manual_seed(7)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x)

    return [nn.Linear(7, 20), Block(), Block(), Block(), nn.Linear(20, 3)]


NETS = {
    "tanh": (tanh_net, (6, 32)),
    "steep": (steep_net, (2, 24)),
    "batch norm": (batch_norm_net, (12, 16)),
    "convolution": (conv_net, (3, 2, 8, 8)),
    "residual": (residual_net, (5, 7)),
}


@pytest.mark.parametrize("name", NETS)
def test_intervals_hold_this_nets_jacobian_and_are_no_wider_than_theory(name: str) -> None:
    build, shape = NETS[name]
    layers = build()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    jacobians = chain_jacobians(layers, x)
    subject = opened(nn.Sequential(*layers), x)
    norms = [float(j.norm()) for j in jacobians]
    squares = [torch.linalg.svdvals(j) ** 2 for j in jacobians]
    gains = [a / b for a, b in pairwise([*(n**2 for n in norms), float(jacobians[-1].shape[0])])]
    inside = gains_inside = 0
    widths: list[list[float]] = [[] for _ in norms]
    seeds, probes = 200, Settings().budget.probes
    for seed in range(1000, 1000 + seeds):
        growth = measure_growth(subject, Settings(seed=seed))
        assert [row.jacobian_norm_log10 is not None for row in growth.stages] == [True] * len(norms)
        for i, row in enumerate(growth.stages):
            estimate = row.jacobian_norm_log10
            assert estimate is not None
            assert estimate.low is not None
            assert estimate.high is not None
            inside += estimate.low <= math.log10(norms[i]) <= estimate.high
            widths[i].append(estimate.high - estimate.low)
            gains_inside += holds(row.backward_gain, gains[i])
    assert 0.92 <= inside / (seeds * len(norms)) <= 0.99
    assert 0.92 <= gains_inside / (seeds * len(norms)) <= 0.99
    for seen, square in zip(widths, squares, strict=True):
        # Var ||J^T u||^2 = 2 sum sigma^4; the log of the mean of m draws, through Student's t.
        # The correction for skewness may add a quarter where one direction rules.
        relative = math.sqrt(2 * float((square**2).sum()) / probes) / float(square.sum())
        theory = 2 * student_quantile(probes - 1) * relative / (2 * math.log(10))
        assert statistics.median(seen) <= 1.25 * theory


def holds(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def test_forward_intervals_hold_this_nets_gain() -> None:
    build, shape = NETS["residual"]
    layers = build()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    arrived, squares = torch.eye(x.numel(), dtype=torch.float64), [float(x.numel())]
    for jacobian in stage_jacobians(in_float64(layers), x):
        arrived = jacobian @ arrived
        squares.append(float(arrived.square().sum()))
    subject = opened(nn.Sequential(*layers), x)
    growth = measure_growth(subject, Settings(effort="thorough"))
    inside, seeds = 0, 200
    for seed in range(1000, 1000 + seeds):
        rows, _ = measure_forward_gain(subject, growth, Settings(effort="thorough", seed=seed))
        gains = zip(rows, pairwise(squares), strict=True)
        inside += sum(holds(row.forward_gain, behind / before) for row, (before, behind) in gains)
    assert 0.92 <= inside / (seeds * len(layers)) <= 0.99


@pytest.mark.parametrize("name", NETS)
def test_gains_are_this_nets_and_multiply_to_the_total(name: str) -> None:
    build, shape = NETS[name]
    layers = build()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    jacobians = chain_jacobians(layers, x)
    truth = [float(j.square().sum()) for j in jacobians] + [float(jacobians[-1].shape[0])]
    growth = measure_growth(opened(nn.Sequential(*layers), x), Settings(effort="thorough"))
    gains = [row.backward_gain for row in growth.stages]
    held = 0
    for i, gain in enumerate(gains):
        assert gain is not None
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= truth[i] / truth[i + 1] <= gain.high
    assert held >= len(gains) - 1
    total = growth.trunk.total_growth_log10
    assert total is not None
    product = sum(math.log10(g.value) for g in gains[1:] if g is not None)
    assert total.value == pytest.approx(product, abs=1e-9)


def test_depth_does_not_leave_floats_range() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(400):
        linear = nn.Linear(16, 16, bias=False)
        nn.init.orthogonal_(linear.weight, gain=0.1)  # each layer takes 1e-2 of the square
        layers.append(linear)
    growth = measure_growth(opened(nn.Sequential(*layers), torch.randn(4, 16)), Settings())
    total = growth.trunk.total_growth_log10
    assert total is not None
    assert total.value == pytest.approx(-2 * 399, abs=0.01)


def test_a_stage_that_passes_nothing_has_a_gain_of_exactly_zero() -> None:
    layers = [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)]
    nn.init.constant_(layers[2].bias, -1e3)
    growth = measure_growth(opened(nn.Sequential(*layers), torch.randn(4, 8)), Settings())
    gain = growth.stages[1].backward_gain
    assert gain is not None
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)
    assert growth.trunk.total_growth_log10 is None
    assert any(gap.what == "growth per stage" for gap in growth.not_measured)


def test_what_lies_before_a_head_of_zeros_is_measured() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(16, 16, bias=False) for _ in range(6)]
    for layer in layers[:-1]:
        nn.init.orthogonal_(layer.weight, gain=0.5)
    nn.init.zeros_(layers[-1].weight)
    growth = measure_growth(opened(nn.Sequential(*layers), torch.randn(4, 16)), Settings())
    gains = [row.backward_gain.value for row in growth.stages if row.backward_gain is not None]
    assert gains == pytest.approx([0.25] * 5 + [0.0], rel=1e-5)
    inner = growth.trunk.interior_growth_log10
    assert inner is not None
    assert inner.value == pytest.approx(4 * math.log10(0.25), abs=1e-5)
    # From end to end the Jacobian is zero, and has no logarithm.
    assert growth.trunk.total_growth_log10 is None
    assert all(row.jacobian_norm_log10 is None for row in growth.stages)


def test_an_output_cut_off_from_the_input_is_not_measured() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.w(x.detach())

    growth = measure_growth(opened(Cut(), torch.randn(3, 4)), Settings())
    assert not growth.trunk.found
    assert "does not depend" in growth.not_measured[0].why
