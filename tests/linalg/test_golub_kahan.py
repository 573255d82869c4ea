"""Golub-Kahan-Lanczos against a full float64 SVD, on maps built to be awkward."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gradaudit.linalg.dense import dense_norm, matrix_map
from gradaudit.linalg.golub_kahan import LinearMap, NormBounds, spectral_norm
from gradaudit.linalg.top_values import top_singular_values
from tests.reference import top_singular_value


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_spectrum(rows: int, columns: int, values: Tensor, generator: torch.Generator) -> Tensor:
    """A float64 matrix with these singular values and random singular vectors."""
    count = len(values)
    left = torch.linalg.qr(torch.randn(rows, count, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, count, generator=generator, dtype=torch.float64)).Q
    return (left * values) @ right.T


def random_case(case: int) -> Tensor:
    """Shapes up to 300, ranks down to one, and six kinds of spectrum, in both precisions."""
    generator = seeded(1000 + case)
    rows, columns = (int(x) for x in torch.randint(2, 300, (2,), generator=generator))
    full = min(rows, columns)
    rank = (full, full, max(full // 4, 1), 1)[case % 4]
    index = torch.arange(rank, dtype=torch.float64)
    spectra = (
        torch.rand(rank, generator=generator, dtype=torch.float64) + 0.01,
        0.9**index,
        1 / (1 + index),
        1 - 1e-4 * index / rank,  # all clustered at the top
        torch.where(index < 5, 1 - 1e-3 * index, 0.5),  # five at the top, a gap, a plateau
        torch.ones(rank, dtype=torch.float64),
    )
    matrix = with_spectrum(rows, columns, spectra[case % 6], generator)
    matrix = matrix * 10.0 ** (case % 13 - 6)
    return matrix if case % 5 == 0 else matrix.float()


def counting(matrix: Tensor) -> tuple[LinearMap, list[int]]:
    """``matrix`` as a map that notes each product with it."""
    plain, calls = matrix_map(matrix), []

    def matvec(x: Tensor) -> Tensor:
        calls.append(1)
        return plain.matvec(x)

    return LinearMap(matvec, plain.rmatvec, *matrix.shape, matrix.dtype), calls


class TestThreeHundredRandomMatrices:
    def test_the_value_is_within_a_thousandth_and_the_interval_holds_the_truth(self) -> None:
        held = 0
        for case in range(300):
            matrix = random_case(case)
            frobenius = float(matrix.double().norm()) if case % 2 else None
            bounds = spectral_norm(matrix_map(matrix), 60, seeded(case), frobenius=frobenius)
            truth = top_singular_value(matrix.numpy())
            assert abs(bounds.value / truth - 1) <= 1e-3, f"case {case}: {bounds} for {truth}"
            held += bounds.low <= truth <= bounds.high
        assert held >= 297

    def test_dense_norm_likewise_whichever_way_it_takes(self) -> None:
        held = 0
        for case in range(300):
            matrix = random_case(case)
            bounds = dense_norm(matrix, 60, seeded(case))
            truth = top_singular_value(matrix.numpy())
            assert abs(bounds.value / truth - 1) <= 1e-9, f"case {case}: {bounds} for {truth}"
            held += bounds.low <= truth <= bounds.high
        assert held >= 297


class TestUpperBound:
    def test_few_steps_are_admitted_by_a_wide_interval(self) -> None:
        """At 8 steps the Ritz value of a Gaussian is some percent low; the bound must cover it."""
        for seed in range(20):
            matrix = torch.randn(200, 200, generator=seeded(seed))
            bounds = spectral_norm(matrix_map(matrix), 8, seeded(seed + 500))
            truth = top_singular_value(matrix.numpy())
            assert bounds.value < truth * 0.9999
            assert bounds.low <= truth <= bounds.high

    def test_it_is_the_published_one(self) -> None:
        """Kuczynski-Wozniakowski at k = 12 with three looks, recomputed here."""
        matrix = torch.randn(400, 400, generator=seeded(3), dtype=torch.float64)
        bounds = spectral_norm(matrix_map(matrix), 12, seeded(4), delta=1e-3)
        eps = (math.log(1.648 * math.sqrt(400) / (1e-3 / 3)) / 23) ** 2
        assert bounds.high == pytest.approx(bounds.value / math.sqrt(1 - eps), rel=1e-9)
        assert not bounds.certain

    def test_the_frobenius_mass_not_seen_bounds_a_quickly_decaying_spectrum(self) -> None:
        values = 0.3 ** torch.arange(60, dtype=torch.float64)
        matrix = with_spectrum(600, 700, values, seeded(5))
        bounds = spectral_norm(matrix_map(matrix), 8, seeded(6), frobenius=float(matrix.norm()))
        assert bounds.certain
        assert bounds.low <= 1.0 <= bounds.high <= 1.01

    def test_no_bound_after_one_step_without_frobenius(self) -> None:
        matrix = torch.randn(50, 50, generator=seeded(7))
        bounds = spectral_norm(matrix_map(matrix), 1, seeded(8))
        assert bounds.high == math.inf
        assert bounds.low <= top_singular_value(matrix.numpy())

    def test_a_bound_known_beforehand_is_used_where_it_is_the_lowest(self) -> None:
        matrix = torch.randn(300, 300, generator=seeded(18), dtype=torch.float64)
        truth = top_singular_value(matrix.numpy())
        close, far = (
            spectral_norm(matrix_map(matrix), 20, seeded(19), ceiling=factor * truth)
            for factor in (1.001, 10.0)
        )
        assert close.certain
        assert close.high == pytest.approx(1.001 * truth, rel=1e-9)
        assert not far.certain
        assert truth <= far.high < 1.2 * truth


class TestCost:
    def test_a_gaussian_of_1024_reaches_1e_4_in_forty_pairs(self) -> None:
        matrix = torch.randn(1024, 1024, generator=seeded(9))
        truth = top_singular_value(matrix.numpy())
        for seed in range(3):
            counted, calls = counting(matrix)
            bounds = spectral_norm(counted, 40, seeded(seed))
            assert len(calls) <= 40
            assert abs(bounds.value / truth - 1) <= 1e-4

    def test_rank_three_is_used_up_after_four_steps(self) -> None:
        matrix = with_spectrum(900, 800, torch.tensor([3.0, 2.0, 1.0]).double(), seeded(10))
        frobenius = float(matrix.norm())
        for given, certain in ((None, False), (frobenius, True)):
            bounds = spectral_norm(matrix_map(matrix), 60, seeded(11), frobenius=given)
            assert bounds.steps <= 4
            assert bounds.certain == certain
            assert bounds.value == pytest.approx(3.0, rel=1e-10)
            assert bounds.high == pytest.approx(3.0, rel=1e-8)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_an_orthogonal_matrix_is_used_up_at_once(self, dtype: torch.dtype) -> None:
        matrix = torch.linalg.qr(torch.randn(900, 900, generator=seeded(21), dtype=dtype)).Q
        bounds = dense_norm(matrix, 60, seeded(22))
        assert bounds.steps <= 2
        assert bounds.value == pytest.approx(1.0, rel=1e-5)
        assert 1.0 <= bounds.high <= (1.001 if dtype == torch.float32 else 1 + 1e-9)


class TestNearlyUsedUp:
    """One direction a little above a plateau hides behind rounding after the first step."""

    @pytest.mark.parametrize("excess", [1e-6, 8e-5, 1.5e-4, 1e-3])
    @pytest.mark.parametrize("start", range(8))
    def test_the_interval_holds_it(self, excess: float, start: int) -> None:
        n = 700
        basis = torch.linalg.qr(torch.randn(n, n, generator=seeded(23), dtype=torch.float64)).Q
        peak = torch.nn.functional.normalize(
            torch.randn(n, generator=seeded(24), dtype=torch.float64), dim=0
        )
        matrix = (basis + excess * torch.outer(basis @ peak, peak)).float()
        truth = top_singular_value(matrix.numpy())
        assert truth == pytest.approx(1 + excess, abs=1e-6)
        dense = dense_norm(matrix, 60, seeded(start))
        assert dense.low <= truth <= dense.high <= 1.04
        assert dense.steps <= 5
        plain = matrix_map(matrix)
        (first,) = top_singular_values(plain, 20, seeded(start), count=1, delta=1e-3)
        assert first.low <= truth <= first.high


class TestEdges:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3), (600, 600)])
    def test_zero(self, shape: tuple[int, int]) -> None:
        zero = torch.zeros(shape)
        assert dense_norm(zero, 40, seeded()) == NormBounds.exact(0.0)
        assert spectral_norm(matrix_map(zero), 40, seeded()).high == 0.0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1)])
    def test_width_one(self, shape: tuple[int, int]) -> None:
        matrix = torch.randn(shape, generator=seeded(12))
        bounds = spectral_norm(matrix_map(matrix), 40, seeded())
        assert bounds.value == pytest.approx(float(matrix.norm()), rel=1e-6)
        assert bounds.low <= float(matrix.double().norm()) <= bounds.high

    def test_empty(self) -> None:
        assert dense_norm(torch.zeros(0, 5), 40, seeded()).value == 0.0

    @pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 3e37])
    def test_entries_whose_squares_leave_float32(self, scale: float) -> None:
        for side in (40, 700):
            matrix = torch.randn(side, 700, generator=seeded(13)).clamp(-3, 3) * scale
            bounds = dense_norm(matrix, 60, seeded())
            truth = top_singular_value(matrix.double().numpy() / scale) * scale
            assert bounds.low <= truth * (1 + 1e-12)
            assert bounds.high >= truth * (1 - 1e-12)
            assert bounds.value == pytest.approx(truth, rel=1e-3)

    def test_half_precision_is_read_as_it_is(self) -> None:
        matrix = torch.randn(600, 640, generator=seeded(14)).bfloat16()
        truth = top_singular_value(matrix.float().numpy())
        assert dense_norm(matrix, 60, seeded()).value == pytest.approx(truth, rel=1e-4)

    def test_the_global_random_state_is_left_alone(self) -> None:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        dense_norm(torch.ones(600, 700).cumsum(0).sin(), 20, seeded(1))
        assert torch.equal(before, torch.get_rng_state())

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        matrix = torch.randn(800, 900, generator=seeded(15))
        first, second = (dense_norm(matrix, 30, seeded(2)) for _ in range(2))
        assert first == second
        assert first != dense_norm(matrix, 30, seeded(3))

    def test_a_shorter_side_than_the_basis_budget_allows_still_runs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gradaudit.linalg.golub_kahan.MAX_BASIS_ENTRIES", 1)
        matrix = torch.randn(300, 300, generator=seeded(16))
        bounds = spectral_norm(matrix_map(matrix), 60, seeded(), frobenius=float(matrix.norm()))
        assert bounds.steps == 4
        assert bounds.low <= top_singular_value(matrix.numpy()) <= bounds.high


def test_the_map_may_be_wide_or_tall() -> None:
    matrix = np.random.default_rng(17).normal(size=(30, 200))
    for view in (matrix, matrix.T):
        bounds = spectral_norm(matrix_map(torch.tensor(view)), 60, seeded())
        assert bounds.value == pytest.approx(top_singular_value(matrix), rel=1e-9)
