"""Norms of matrices in memory against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gradaudit.linalg.dense import (
    dense_norm,
    frobenius_norm,
    largest_row_norm,
    pieces,
    spectral_radius,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_frobenius_norm_of_more_entries_than_one_piece() -> None:
    tensor = torch.randn(700, 20, 40, generator=seeded())
    assert frobenius_norm(tensor) == pytest.approx(np.linalg.norm(tensor.double()), rel=1e-13)
    assert len(list(pieces(tensor.flatten(1)))) > 1


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e305])
def test_norms_beyond_the_range_of_float64_squares(scale: float) -> None:
    matrix = torch.randn(30, 8, generator=seeded(5), dtype=torch.float64)
    rows = [math.hypot(*row) for row in (matrix * scale).tolist()]
    assert frobenius_norm(matrix * scale) == pytest.approx(math.hypot(*rows), rel=1e-12)
    assert largest_row_norm(matrix * scale) == pytest.approx(max(rows), rel=1e-12)


def test_largest_row_norm_is_exact_among_near_ties() -> None:
    table = torch.nn.functional.normalize(torch.randn(5000, 64, generator=seeded(1)), dim=1)
    truth = np.linalg.norm(table.double().numpy(), axis=1).max()
    assert largest_row_norm(table) == pytest.approx(truth, rel=1e-14)


@pytest.mark.parametrize("scale", [1e-40, 1e30])
def test_largest_row_norm_beyond_the_range_of_float32_squares(scale: float) -> None:
    table = torch.randn(50, 8, generator=seeded(2)) * scale
    truth = np.linalg.norm(table.double().numpy(), axis=1).max()
    assert largest_row_norm(table) == pytest.approx(truth, rel=1e-12)


def test_spectral_radius_is_not_the_norm() -> None:
    shear = torch.tensor([[0.5, 100.0], [0.0, -0.75]])
    assert spectral_radius(shear) == pytest.approx(0.75)
    rotation = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
    assert spectral_radius(rotation) == pytest.approx(2.0)
    assert spectral_radius(torch.zeros(3, 3)) == 0.0


def test_default_linear_weights_lie_at_their_edge() -> None:
    """PyTorch's default: sigma_1 -> (sqrt m + sqrt n) / sqrt(3 n); 2000 x 500 gives 1.7321."""
    weight = (torch.rand(2000, 500, generator=seeded(3)) * 2 - 1) / math.sqrt(500)
    assert dense_norm(weight, 60, seeded()).value == pytest.approx(1.7321, rel=0.02)


def test_the_exact_way_and_the_lanczos_way_agree_at_the_border() -> None:
    for side in (512, 513):
        weight = torch.randn(side, 600, generator=seeded(4))
        truth = float(np.linalg.svd(weight.double().numpy(), compute_uv=False)[0])
        bounds = dense_norm(weight, 60, seeded())
        assert bounds.value == pytest.approx(truth, rel=1e-4)
        assert bounds.certain == (side == 512)
