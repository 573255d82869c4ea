"""Exponents of maps whose spectrum is known, and intervals of series that remember."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gradaudit.linalg.lyapunov import Exponents, burn_in, exponents, random_frame, stretches
from gradaudit.linalg.series import autocorrelation_time, mean_over_time
from tests.reference import lyapunov_spectrum


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(jacobians: Tensor, count: int | None = None, seed: int = 0) -> Exponents:
    """Exponents of ``[steps, n, d, d]`` chains."""
    steps, n, size, _ = jacobians.shape
    frame = random_frame(n, size, count or size, generator(seed))
    logs = stretches(lambda t, q: jacobians[t] @ q, steps, frame)
    return exponents(logs[burn_in(steps) :], count)


def values(found: Exponents) -> list[float]:
    return [value for value, _, _ in found.values]


def constant(matrix: Tensor, steps: int = 2000) -> Tensor:
    return matrix.double()[None, None].expand(steps, 1, -1, -1)


def test_a_linear_map_gives_the_logs_of_its_eigenvalues() -> None:
    torch.manual_seed(0)
    basis = torch.randn(5, 5, dtype=torch.float64)
    spread = torch.tensor([2.0, -1.0, 0.7, 0.5, 0.1], dtype=torch.float64)
    matrix = basis @ torch.diag(spread) @ torch.linalg.inv(basis)
    assert values(measured(constant(matrix))) == pytest.approx(spread.abs().log().tolist())


def test_complex_eigenvalues_turn_and_the_mean_stays() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(8, 8, dtype=torch.float64) / 3
    expected = sorted(torch.linalg.eigvals(matrix).abs().log().tolist(), reverse=True)
    assert values(measured(constant(matrix))) == pytest.approx(expected, abs=2e-3)


def test_intervals_of_exponents_that_turn_hold_the_eigenvalues() -> None:
    """All sequences share the map: their spread does not show what a turning pair leaves."""
    held, halves = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        matrix = torch.randn(12, 12, dtype=torch.float64) / 12**0.5
        expected = sorted(torch.linalg.eigvals(matrix).abs().log().tolist(), reverse=True)[:4]
        jacobians = matrix[None, None].expand(600, 8, -1, -1)
        found = measured(jacobians, 4, seed)
        for truth, (_, low, high) in zip(expected, found.values, strict=True):
            assert low is not None
            assert high is not None
            held.append(low - 1e-9 <= truth <= high + 1e-9)
            halves.append((high - low) / 2)
    assert sum(held) >= 0.95 * len(held)
    assert np.median(halves) < 1e-3


def test_orthogonal_maps_give_zero() -> None:
    torch.manual_seed(2)
    matrices = torch.linalg.qr(torch.randn(300, 2, 6, 6, dtype=torch.float64)).Q
    assert values(measured(matrices)) == pytest.approx([0.0] * 6, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_cycle_of_three_gives_the_spectral_radius_of_its_product(seed: int) -> None:
    """In the order in which the maps are applied: the other order has other exponents over time."""
    torch.manual_seed(seed)
    one, two, three = torch.randn(3, 4, 4, dtype=torch.float64)
    steps = torch.stack([one, two, three] * 1000)[:, None]
    radius = torch.linalg.eigvals(three @ two @ one).abs().max()
    assert values(measured(steps))[0] == pytest.approx(math.log(radius) / 3, abs=2e-3)


def test_the_frame_goes_through_the_first_map_first() -> None:
    """Three different maps once: the exact stretch of their product, which does not commute."""
    torch.manual_seed(3)
    maps = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    frame = random_frame(1, 4, 2, generator())
    logs = stretches(lambda t, q: maps[t] @ q, 3, frame)
    start = torch.linalg.qr(frame[0]).Q
    carried = maps[2, 0] @ maps[1, 0] @ maps[0, 0] @ start
    assert float(logs[:, 0, 0].sum()) == pytest.approx(float(carried[:, 0].norm().log()))
    area = torch.linalg.det(carried.T @ carried).sqrt().log()
    assert float(logs.sum()) == pytest.approx(float(area))


def test_the_logistic_map_at_four() -> None:
    x = torch.rand(8, dtype=torch.float64, generator=generator())
    slopes = []
    for _ in range(4000):
        slopes.append((4 - 8 * x)[:, None, None])
        x = 4 * x * (1 - x)
    (value, low, high), *_ = measured(torch.stack(slopes)).values
    assert value == pytest.approx(math.log(2), rel=0.01)
    assert low is not None
    assert high is not None
    assert low <= math.log(2) <= high
    assert high - low < 0.03


def henon(steps: int, n: int) -> Tensor:
    x = 0.1 * torch.rand(n, 2, dtype=torch.float64, generator=generator())
    jacobians = []
    for t in range(steps + 100):
        if t >= 100:
            top = torch.stack([-2.8 * x[:, 0], torch.ones(n)], dim=1)
            bottom = torch.tensor([0.3, 0.0]).expand(n, 2)
            jacobians.append(torch.stack([top, bottom], dim=1).double())
        x = torch.stack([1 - 1.4 * x[:, 0] ** 2 + x[:, 1], 0.3 * x[:, 0]], dim=1)
    return torch.stack(jacobians)


def test_the_henon_map() -> None:
    jacobians = henon(5000, 4)
    first, second = measured(jacobians).values
    assert first[0] == pytest.approx(0.4192, abs=0.012)
    assert second[0] == pytest.approx(-1.6239, abs=0.012)
    for (_, low, high), truth in ((first, 0.4192), (second, -1.6239)):
        assert low is not None
        assert high is not None
        assert low <= truth <= high
    # the determinant is -0.3 everywhere, whatever the trajectory; float32 holds 0.3 to 1e-8
    assert first[0] + second[0] == pytest.approx(math.log(0.3), abs=1e-7)


def test_products_of_random_matrices() -> None:
    """Newman 1986: the top exponent is (digamma(n / 2) + ln(2 / n)) / 2, -.0079 at n = 64."""
    gaussian = torch.randn(1500, 4, 64, 64, dtype=torch.float64, generator=generator(1)) / 8
    (value, low, high), *_ = measured(gaussian, count=2).values
    assert low is not None
    assert high is not None
    truth = -0.0079
    assert low <= truth <= high
    assert abs(value - truth) < 0.004
    assert high - low < 0.01


def test_a_small_chaotic_tanh_network_against_the_full_spectrum() -> None:
    n, gain = 24, 2.0
    weight = gain * torch.randn(n, n, dtype=torch.float64, generator=generator(2)) / n**0.5
    h, jacobians = torch.full((n,), 0.1, dtype=torch.float64), []
    for _ in range(900):
        h = torch.tanh(weight @ h)
        jacobians.append((1 - h.square())[:, None] * weight)
    chain = torch.stack(jacobians[200:])[:, None]
    full = lyapunov_spectrum([np.asarray(j) for j in chain[:, 0]], burn_in(700))
    assert values(measured(chain, count=4)) == pytest.approx(sorted(full)[-4:][::-1], abs=0.02)


def test_what_a_map_wipes_out_has_no_exponent() -> None:
    nothing = measured(torch.zeros(20, 2, 3, 3, dtype=torch.float64))
    assert nothing.values == ()
    assert nothing.collapsed == 3
    column = torch.randn(4, 1, dtype=torch.float64, generator=generator())
    rank_one = measured(constant(column @ column.T, 50))
    assert values(rank_one) == pytest.approx([float((column.T @ column).log())])
    assert rank_one.collapsed == 3  # and not what rounding makes of zero, -36 or so
    with pytest.raises(ValueError, match="not a number"):
        measured(torch.full((3, 1, 2, 2), torch.nan, dtype=torch.float64))


def test_one_dimension_is_the_mean_log() -> None:
    slopes = torch.rand(40, 1, 1, 1, dtype=torch.float64, generator=generator()) + 0.5
    assert values(measured(slopes)) == pytest.approx([float(slopes[13:].log().mean())])


def test_few_steps_stand_for_themselves() -> None:
    short = measured(constant(torch.eye(2), 10).expand(-1, 3, -1, -1))
    assert short.finite_time
    assert not measured(constant(torch.eye(2), 100)).finite_time
    (_, low, high), *_ = measured(constant(torch.eye(2), 10)).values
    assert (low, high) == (None, None)  # one sequence of ten steps bears no interval


# --- means over time


def autoregressive(rho: float, steps: int, n: int, source: torch.Generator) -> Tensor:
    noise = torch.randn(steps, n, dtype=torch.float64, generator=source)
    rows = [noise[0]]
    for t in range(1, steps):
        rows.append(rho * rows[-1] + math.sqrt(1 - rho**2) * noise[t])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("rho", "steps", "n", "between"),
    [
        (0.0, 12, 4, 0.0),
        (0.6, 60, 4, 0.0),
        (0.9, 100, 4, 0.0),
        (0.5, 100, 4, 0.5),
        (0.0, 300, 1, 0),
    ],
)
def test_intervals_hold_the_mean_of_series_with_a_memory(
    rho: float, steps: int, n: int, between: float
) -> None:
    """Of 200; ``between`` is how much the sequences differ in themselves."""
    source = generator(5)
    held, widths = 0, []
    for _ in range(200):
        series = autoregressive(rho, steps, n, source)
        series = series + between * torch.randn(n, dtype=torch.float64, generator=source)
        _, low, high = mean_over_time(series)
        assert low is not None
        assert high is not None
        held += low <= 0 <= high
        widths.append(high - low)
    assert 0.92 * 200 <= held <= 0.99 * 200
    variance = (1 + rho) / (1 - rho) / steps / n + between**2 / n
    assert sorted(widths)[100] < 1.65 * 2 * 1.96 * math.sqrt(
        variance
    )  # Student's, of 4 at the least


def test_the_memory_of_a_series() -> None:
    series = autoregressive(0.8, 4000, 4, generator())
    assert autocorrelation_time(series) == pytest.approx(9.0, rel=0.2)
    assert autocorrelation_time(torch.zeros(9, 2)) == 1.0
    assert autocorrelation_time(torch.tensor([[1.0], [-1.0]] * 20)) == 1.0


def test_a_drift_is_not_known_better_than_it_moves() -> None:
    drifting = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None].expand(-1, 4)
    value, low, high = mean_over_time(drifting)
    assert value == pytest.approx(0.5)
    assert low is not None
    assert high is not None
    assert high - low >= 0.5


def test_series_that_bear_no_interval() -> None:
    assert mean_over_time(torch.ones(12, 1)) == (1.0, None, None)
    assert mean_over_time(torch.ones(12, 2)) == (1.0, 1.0, 1.0)
    assert mean_over_time(torch.tensor([[2.0, 4.0]]))[0] == 3.0
    for bad in (torch.ones(0, 2), torch.tensor([[torch.inf]])):
        with pytest.raises(ValueError, match="finite, non-empty"):
            mean_over_time(bad)
