"""Convolutions as operators against their brute-force float64 matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradaudit.linalg.convolution import convolution_norm, every_geometry_norm
from gradaudit.linalg.convolution_map import (
    Convolution,
    convolution_map,
    operator_frobenius,
    standing_wave,
)
from gradaudit.linalg.symbol import Grid, symbol_peak
from tests.reference import convolution_matrix, top_singular_value


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(
    kernel: torch.Tensor, *geometry: Any, mode: str = "zeros"
) -> tuple[Convolution, np.ndarray]:
    """The convolution and its matrix; geometry: size, stride, padding, dilation, groups."""
    size, stride, padding, dilation, *rest = geometry
    groups = rest[0] if rest else 1
    both = tuple((p, p) for p in padding)
    convolution = Convolution(kernel, size, stride, both, dilation, groups, mode)
    matrix = convolution_matrix(
        kernel.double().numpy(), size, stride, padding, dilation, groups=groups, mode=mode
    )
    return convolution, matrix


# (kernel shape, input size, stride, padding, dilation, groups)
TABLE = [
    ((4, 3, 3, 3), (8, 8), (1, 1), (1, 1), (1, 1), 1),
    ((4, 3, 3, 3), (8, 8), (1, 1), (0, 0), (1, 1), 1),
    ((4, 3, 3, 3), (9, 8), (2, 2), (1, 1), (1, 1), 1),
    ((4, 3, 3, 3), (10, 7), (3, 2), (0, 1), (1, 1), 1),
    ((4, 2, 3, 3), (9, 9), (1, 1), (2, 2), (2, 2), 1),
    ((4, 2, 3, 3), (11, 9), (2, 2), (2, 1), (2, 1), 1),
    ((6, 2, 3, 3), (7, 7), (1, 1), (1, 1), (1, 1), 2),
    ((6, 1, 3, 3), (7, 7), (2, 1), (1, 1), (1, 1), 6),
    ((5, 3, 7, 7), (9, 9), (2, 2), (3, 3), (1, 1), 1),
    ((3, 2, 2, 2), (6, 6), (2, 2), (0, 0), (1, 1), 1),
    ((3, 2, 2, 2), (7, 7), (3, 3), (0, 0), (1, 1), 1),  # stride past the kernel
    ((3, 4, 1, 1), (6, 6), (1, 1), (0, 0), (1, 1), 1),
    ((4, 2, 1, 1), (6, 6), (2, 2), (1, 1), (1, 1), 2),
    ((2, 2, 5, 1), (8, 6), (1, 1), (2, 0), (1, 1), 1),
    ((2, 2, 3, 3), (3, 3), (1, 1), (4, 4), (1, 1), 1),  # padding past the kernel
    ((1, 1, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),
    ((4, 3, 5), (20,), (1,), (2,), (1,), 1),
    ((4, 3, 5), (20,), (2,), (2,), (2,), 1),
    ((4, 2, 3), (16,), (3,), (0,), (1,), 2),
    ((2, 2, 3, 3, 3), (4, 4, 4), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    ((2, 1, 2, 3, 2), (5, 4, 5), (2, 1, 2), (1, 1, 0), (1, 1, 1), 2),
]


class TestAgainstTheBruteForceOperator:
    @pytest.mark.parametrize("case", TABLE, ids=str)
    @pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
    def test_zero_padding(self, case: tuple, double: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if not double:
            monkeypatch.setattr("gradaudit.linalg.convolution_map._FEW_ENTRIES", 0)
        shape, *geometry = case
        convolution, matrix = build(torch.randn(shape, generator=seeded(1)), *geometry)
        truth = top_singular_value(matrix)
        bounds = convolution_norm(convolution, 60, seeded(2))
        assert bounds.value == pytest.approx(truth, rel=1e-6 if double else 1e-3)
        assert bounds.low <= truth * (1 + 1e-12)
        assert bounds.high >= truth * (1 - 1e-12)
        assert bounds.high <= 1.05 * truth

    @pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
    @pytest.mark.parametrize(
        "case", [c for c in TABLE if max(c[3]) < min(c[1]) and any(c[3])], ids=str
    )
    def test_other_paddings(self, case: tuple, mode: str) -> None:
        shape, *geometry = case
        convolution, matrix = build(torch.randn(shape, generator=seeded(3)), *geometry, mode=mode)
        truth = top_singular_value(matrix)
        bounds = convolution_norm(convolution, 60, seeded(4))
        assert bounds.value == pytest.approx(truth, rel=1e-6)
        assert bounds.low <= truth * (1 + 1e-12)
        assert bounds.high >= truth * (1 - 1e-12)
        assert operator_frobenius(convolution) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)

    @pytest.mark.parametrize("case", TABLE, ids=str)
    def test_map_adjoint_and_frobenius(self, case: tuple) -> None:
        shape, *geometry = case
        convolution, matrix = build(torch.randn(shape, generator=seeded(5)), *geometry)
        linear_map = convolution_map(convolution)
        x = torch.randn(linear_map.columns, generator=seeded(6), dtype=torch.float64)
        y = torch.randn(linear_map.rows, generator=seeded(7), dtype=torch.float64)
        np.testing.assert_allclose(linear_map.matvec(x), matrix @ x.numpy(), atol=1e-10)
        np.testing.assert_allclose(linear_map.rmatvec(y), matrix.T @ y.numpy(), atol=1e-10)
        assert operator_frobenius(convolution) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)

    @pytest.mark.parametrize("mode", ["zeros", "reflect"])
    def test_uneven_padding_as_same_makes_it(self, mode: str) -> None:
        """An even kernel under ``padding='same'``: one entry more behind than before."""
        kernel = torch.randn(3, 2, 4, 4, generator=seeded(8))
        convolution = Convolution(kernel, (6, 6), (1, 1), ((1, 2),) * 2, (1, 1), 1, mode)
        _, wide = build(kernel, (6, 6), (1, 1), (2, 2), (1, 1), mode=mode)
        positions = wide.reshape(3, 7, 7, -1)[:, 1:, 1:].reshape(3 * 36, -1)
        bounds = convolution_norm(convolution, 60, seeded(9))
        assert bounds.value == pytest.approx(top_singular_value(positions), rel=1e-6)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Convolution, np.ndarray]:
    groups = draw(st.sampled_from([1, 1, 2]))
    out, inside = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pairs = st.tuples
    taps = draw(pairs(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(pairs(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(pairs(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(pairs(st.integers(0, 3), st.integers(0, 3)))
    spare = draw(pairs(st.integers(0, 5), st.integers(0, 5)))
    geometry = zip(taps, dilation, padding, spare, strict=True)
    size = tuple(max(d * (k - 1) + 1 - 2 * p, 1) + extra for k, d, p, extra in geometry)
    modes = ["zeros", "zeros", "replicate"]
    if all(p <= n for p, n in zip(padding, size, strict=True)):
        modes.append("circular")
    if all(p < n for p, n in zip(padding, size, strict=True)):
        modes.append("reflect")
    seed = draw(st.integers(0, 2**16))
    kernel = torch.randn(out, inside, *taps, generator=seeded(seed))
    return build(kernel, size, stride, padding, dilation, groups, mode=draw(st.sampled_from(modes)))


@given(convolutions())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_convolution_lies_in_its_interval(case: tuple[Convolution, np.ndarray]) -> None:
    convolution, matrix = case
    truth = top_singular_value(matrix)
    bounds = convolution_norm(convolution, 60, seeded())
    assert bounds.value == pytest.approx(truth, rel=1e-2)
    assert bounds.low <= truth * (1 + 1e-12)
    assert bounds.high >= truth * (1 - 1e-12)
    assert operator_frobenius(convolution) == pytest.approx(np.linalg.norm(matrix), rel=1e-10)


class TestOracles:
    @pytest.mark.parametrize("n", [4, 8, 16, 32, 64])
    def test_a_kernel_of_ones(self, n: int) -> None:
        ones = Convolution(torch.ones(1, 1, 3, 3), (n, n), (1, 1), ((1, 1),) * 2, (1, 1))
        truth = (1 + 2 * math.cos(math.pi / (n + 1))) ** 2
        bounds = convolution_norm(ones, 40, seeded())
        assert bounds.value == pytest.approx(truth, rel=1e-9)
        assert bounds.low <= truth <= bounds.high

    def test_a_kernel_of_ones_on_a_circle_is_nine(self) -> None:
        ones = Convolution(
            torch.ones(1, 1, 3, 3), (8, 8), (1, 1), ((1, 1),) * 2, (1, 1), 1, "circular"
        )
        bounds = convolution_norm(ones, 40, seeded())
        assert bounds.value == pytest.approx(9.0, rel=1e-12)
        assert bounds.high == pytest.approx(9.0, rel=1e-9)

    @pytest.mark.parametrize("size", [(32, 32), (35, 33)])
    def test_patches_are_the_reshaped_kernel(self, size: tuple[int, int]) -> None:
        kernel = torch.randn(16, 3, 4, 4, generator=seeded(10))
        patches = Convolution(kernel, size, (4, 4), ((0, 0),) * 2, (1, 1))
        bounds = convolution_norm(patches, 40, seeded())
        truth = top_singular_value(kernel.flatten(1).numpy())
        assert bounds.value == pytest.approx(truth, rel=1e-9)
        assert bounds.high == pytest.approx(truth, rel=1e-9)

    def test_a_kernel_of_zeros(self) -> None:
        zeros = Convolution(torch.zeros(2, 2, 3, 3), (8, 8), (1, 1), ((1, 1),) * 2, (1, 1))
        assert convolution_norm(zeros, 40, seeded()).high == 0.0

    @pytest.mark.parametrize("scale", [2.0**-700, 2.0**700])
    @pytest.mark.parametrize(
        ("shape", "groups"), [((4, 3, 3, 3), 1), ((64, 64, 3, 3), 1), ((4, 1, 3, 3), 4)]
    )
    def test_scaled_by_a_power_of_two_it_has_the_same_bounds_scaled(
        self, shape: tuple[int, ...], groups: int, scale: float
    ) -> None:
        kernel = torch.randn(shape, generator=seeded(13), dtype=torch.float64)
        plain, scaled = (
            Convolution(k, (8, 8), (1, 1), ((1, 1),) * 2, (1, 1), groups)
            for k in (kernel, kernel * scale)
        )
        expected = convolution_norm(plain, 40, seeded()).scaled(scale)
        assert convolution_norm(scaled, 40, seeded()) == expected
        assert operator_frobenius(scaled) == operator_frobenius(plain) * scale

    def test_a_kernel_that_does_not_fit(self) -> None:
        big = Convolution(torch.ones(1, 1, 5, 5), (3, 3), (1, 1), ((0, 0),) * 2, (1, 1))
        with pytest.raises(ValueError, match="kernel spanning"):
            convolution_norm(big, 40, seeded())


class TestSymbolBound:
    def test_the_input_size_is_not_a_grid_under_zero_padding(self) -> None:
        """The trap: this symbol peaks at pi, which an odd grid of the input's size steps over."""
        line = torch.tensor([1.0, -1.0, 1.0])
        kernel = torch.outer(line, line)[None, None]
        _, matrix = build(kernel, (5, 5), (1, 1), (1, 1), (1, 1))
        truth = top_singular_value(matrix)
        trap = np.abs(np.fft.fft2(kernel[0, 0].double().numpy(), (5, 5))).max()
        assert truth > 1.08 * trap
        bound = symbol_peak(kernel, (Grid(3, 7), Grid(3, 7)))
        assert bound is not None
        assert bound.bound >= truth

    @pytest.mark.parametrize("taps", [2, 3, 5, 7])
    def test_between_the_points_it_covers_a_fine_grid(self, taps: int) -> None:
        for seed in range(5):
            kernel = torch.randn(3, 2, taps, taps, generator=seeded(seed))
            points = 4 * taps
            coarse = np.fft.fft2(kernel.double().numpy(), (points,) * 2).transpose(2, 3, 0, 1)
            fine = np.fft.fft2(kernel.double().numpy(), (64, 64)).transpose(2, 3, 0, 1)
            between = Grid(taps, points, exact=False).between ** 2
            top = np.linalg.svd(coarse, compute_uv=False).max()
            assert np.linalg.svd(fine, compute_uv=False).max() <= top * between

    def test_a_large_input_is_bounded_by_the_sup(self) -> None:
        kernel = torch.randn(4, 3, 3, 3, generator=seeded(11))
        fine = np.fft.fft2(kernel.double().numpy(), (128, 128)).transpose(2, 3, 0, 1)
        sup = float(np.linalg.svd(fine, compute_uv=False).max())
        bound = symbol_peak(kernel, (Grid(3, 1000, dilation=4), Grid(3, 1000)))
        assert bound is not None
        assert sup <= bound.bound <= 1.02 * sup
        assert 0 < bound.slack < 0.02

    def test_a_large_kernel_is_left_to_lanczos(self) -> None:
        assert symbol_peak(torch.zeros(1, 1).expand(512, 512)[..., None, None], None) is None
        wide = torch.zeros(1).expand(1024, 1024, 3, 3)
        assert symbol_peak(wide, (Grid(3, 34), Grid(3, 34))) is None


# (kernel shape, input size, stride, padding, dilation, groups, mode)
WAVES = [
    ((1, 1, 3, 3), (20, 17), (1, 1), (1, 1), (1, 1), 1, "zeros"),
    ((2, 1, 3, 3), (27, 26), (2, 2), (1, 1), (1, 1), 1, "zeros"),
    ((2, 1, 3, 3), (18, 16), (1, 1), (1, 0), (1, 1), 2, "zeros"),
    ((2, 3, 3, 3), (12, 12), (1, 1), (1, 1), (1, 1), 1, "circular"),
    ((4, 3, 5), (200,), (1,), (2,), (1,), 1, "zeros"),
    ((4, 3, 5), (201,), (3,), (1,), (1,), 1, "zeros"),
]


class TestStandingWave:
    @pytest.mark.parametrize("case", WAVES, ids=str)
    def test_a_few_products_from_it_do(self, case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gradaudit.linalg.convolution_map._FEW_ENTRIES", 0)
        shape, *geometry, mode = case
        smooth = torch.rand(shape, generator=seeded(12)) / 10
        smooth[(..., *(taps // 2 for taps in shape[2:]))] += 1  # the symbol is flat, and peaks at 0
        for kernel in (smooth, smooth * torch.where(torch.arange(shape[-1]) % 2 == 0, 1.0, -1.0)):
            convolution, matrix = build(kernel, *geometry, mode=mode)
            truth = top_singular_value(matrix)
            bounds = convolution_norm(convolution, 60, seeded())
            assert bounds.low <= truth * (1 + 1e-9)
            assert bounds.high >= truth * (1 - 1e-9)
            assert bounds.value == pytest.approx(truth, rel=2e-3)
            assert bounds.certain
            assert bounds.steps <= 8

    def test_it_is_the_lowest_mode_of_a_kernel_of_ones(self) -> None:
        """There the half sine is the singular vector itself."""
        ones = Convolution(torch.ones(1, 1, 3, 3), (12, 9), (1, 1), ((1, 1),) * 2, (1, 1))
        peak = symbol_peak(ones.kernel, (Grid(3, 14), Grid(3, 11)))
        assert peak is not None
        assert peak.frequency == (0.0, 0.0)
        wave = standing_wave(ones, peak)
        linear_map = convolution_map(ones)
        gain = float(linear_map.matvec(wave).norm() / wave.norm())
        cosines = [1 + 2 * math.cos(math.pi / (n + 1)) for n in (12, 9)]
        assert gain == pytest.approx(math.prod(cosines), rel=1e-12)

    def test_where_it_does_not_lead_near_the_bound_a_random_start_does(self) -> None:
        """On 4 x 4 the padding is most of what a kernel of ones sees: 6.85 where the bound is 9."""
        kernel = torch.ones(1, 1, 3, 3).repeat(64, 64, 1, 1)  # too large for the small maps' way
        convolution = Convolution(kernel, (4, 4), (1, 1), ((1, 1),) * 2, (1, 1))
        assert not convolution.small
        bounds = convolution_norm(convolution, 60, seeded())
        truth = 64 * (1 + 2 * math.cos(math.pi / 5)) ** 2
        assert bounds.value == pytest.approx(truth, rel=1e-5)
        assert bounds.low <= truth <= bounds.high <= 1.05 * truth


class TestUnknownGeometry:
    @pytest.mark.parametrize("taps", [1, 2, 3, 5])
    def test_the_interval_holds_every_stride_padding_and_size(self, taps: int) -> None:
        kernel = torch.randn(4, 3, taps, taps, generator=seeded(taps))
        bounds = every_geometry_norm(kernel, 60, seeded())
        for stride in {1, 2, taps}:
            for padding in {0, taps // 2, taps - 1}:
                for size in (2 * taps, 9):
                    geometry = ((size, size), (stride, stride), (padding, padding), (1, 1))
                    truth = top_singular_value(build(kernel, *geometry)[1])
                    assert bounds.low <= truth * (1 + 1e-9)
                    assert truth <= bounds.high * (1 + 1e-9)
        assert bounds.low <= bounds.value <= bounds.high
        assert bounds.high <= 1.06 * bounds.value

    def test_it_is_tight_at_stride_one(self) -> None:
        kernel = torch.ones(1, 1, 3, 3)
        bounds = every_geometry_norm(kernel, 60, seeded())
        assert bounds.value == pytest.approx(9.0)
        assert bounds.low == pytest.approx(3.0)
