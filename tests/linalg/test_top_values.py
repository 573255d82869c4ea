"""The few largest singular values, with multiplicity, between bounds that hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradaudit.linalg.golub_kahan import LinearMap
from gradaudit.linalg.top_values import NotAdjoint, NotFinite, top_singular_values


def as_map(matrix: Tensor) -> LinearMap:
    rows, columns = matrix.shape
    return LinearMap(
        lambda x: matrix @ x, lambda y: matrix.T @ y, rows, columns, dtype=matrix.dtype
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64)


def truth(matrix: Tensor) -> list[float]:
    return [float(s) for s in np.linalg.svd(matrix.double().numpy(), compute_uv=False)]


MATRICES: dict[str, Callable[[], Tensor]] = {
    "Gaussian": lambda: gaussian(90, 60),
    "wide": lambda: gaussian(40, 200),
    "rank one": lambda: gaussian(50, 1) @ gaussian(1, 40, 1),
    "rank two": lambda: gaussian(50, 2) @ gaussian(2, 40, 1),
    "zero": lambda: torch.zeros(30, 50, dtype=torch.float64),
    "every value four times": lambda: torch.kron(torch.eye(4), gaussian(12, 9)),
    "orthogonal": lambda: torch.linalg.qr(gaussian(40, 40)).Q,
    "one value twice on top": lambda: torch.diag(torch.tensor([3.0, 3.0, *[1.0] * 50])).double(),
    "geometric": lambda: torch.diag(0.8 ** torch.arange(80.0)).double(),
    "one by one": lambda: torch.tensor([[-2.0]], dtype=torch.float64),
    "one row": lambda: gaussian(1, 30),
    "float32": lambda: gaussian(90, 60).float(),
}


@pytest.mark.parametrize("steps", [3, 12, 40, 200])
@pytest.mark.parametrize("name", MATRICES)
def test_the_bounds_hold_and_all_steps_make_them_exact(name: str, steps: int) -> None:
    matrix = MATRICES[name]()
    expected = truth(matrix)
    found = top_singular_values(as_map(matrix), steps, seeded(3))
    assert len(found) == min(3, steps, len(expected))
    tiny = 1e-12 * max(expected)
    for bounds, value in zip(found, expected, strict=False):
        assert bounds.low - tiny <= value <= bounds.high + tiny
        if steps >= len(expected):
            assert bounds.value == pytest.approx(value, rel=1e-5, abs=1e-12)
            assert bounds.high - bounds.low <= 1e-4 * value + tiny


def test_equal_values_are_counted_as_often_as_they_occur() -> None:
    found = top_singular_values(as_map(MATRICES["one value twice on top"]()), 12, seeded(0))
    assert [b.value for b in found] == pytest.approx([3.0, 3.0, 1.0])
    assert [b.high for b in found] == pytest.approx([3.0, 3.0, 1.0])
    assert found[0].steps <= 6


def test_a_zero_map_is_exactly_zero() -> None:
    for bounds in top_singular_values(as_map(MATRICES["zero"]()), 12, seeded(0)):
        assert (bounds.value, bounds.low, bounds.high) == (0.0, 0.0, 0.0)


def test_the_interval_holds_over_random_starts_and_is_as_wide_as_the_theorem() -> None:
    matrix, steps, delta = gaussian(160, 120), 14, 0.05
    expected, held = truth(matrix), 0
    eps = (math.log(1.648 * math.sqrt(120) / delta) / (2 * steps - 1)) ** 2
    for seed in range(200):
        found = top_singular_values(as_map(matrix), steps, seeded(seed), delta=delta)
        held += all(b.low <= s <= b.high for b, s in zip(found, expected, strict=False))
        assert found[0].high / found[0].value == pytest.approx(1 / math.sqrt(1 - eps), rel=1e-6)
    # A bound for every matrix, so it holds oftener than 95% on most; it may not hold more rarely.
    assert held >= 190


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    rank=st.integers(0, 12),
    steps=st.integers(1, 14),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=100, deadline=None)
def test_no_shape_or_rank_breaks_the_lower_bounds(
    rows: int, columns: int, rank: int, steps: int, seed: int
) -> None:
    matrix = gaussian(rows, rank, seed) @ gaussian(rank, columns, seed + 1)
    expected = truth(matrix)
    tiny = 1e-9 * max(expected)
    found = top_singular_values(as_map(matrix), steps, seeded(seed))
    for bounds, value in zip(found, expected, strict=False):
        assert bounds.low <= value + tiny
        if steps >= min(rows, columns):
            assert bounds.high >= value - tiny


def test_products_that_are_no_adjoints_or_not_finite_are_refused() -> None:
    matrix, other = gaussian(30, 30), gaussian(30, 30, 5)
    lying = LinearMap(lambda x: matrix @ x, lambda y: other @ y, 30, 30)
    with pytest.raises(NotAdjoint, match="do not belong to one Jacobian"):
        top_singular_values(lying, 5, seeded(0))
    broken = LinearMap(lambda x: matrix @ x / 0.0, lambda y: matrix.T @ y, 30, 30)
    with pytest.raises(NotFinite, match="not finite"):
        top_singular_values(broken, 5, seeded(0))
