from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from gradaudit.linalg.intervals import log_ratio_interval, student_quantile


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 5, 7, 8, 15, 31, 63, 200])
def test_student_quantile_is_scipys(dof: int) -> None:
    assert student_quantile(dof) == pytest.approx(stats.t.ppf(0.975, dof), rel=1e-9)


def test_one_probe_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two or more probes"):
        log_ratio_interval(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.5, 0.25, 0.12], [1.0] * 50])
@pytest.mark.parametrize("m", [8, 16, 64])
def test_intervals_of_a_generalised_chi_square_cover(weights: list[float], m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor(weights, dtype=torch.float64)
    inside, runs = 0, 1000
    for _ in range(runs):
        draws = torch.randn(m, len(weights), generator=generator, dtype=torch.float64)
        _, low, high = log_ratio_interval((draws.square() @ scale).log())
        inside += low <= math.log(float(scale.sum())) <= high
    assert 0.92 <= inside / runs <= 0.99


def test_logs_far_out_of_floats_range_are_fine() -> None:
    logs = torch.tensor([1e5, 1e5 + 1, 1e5 + 2], dtype=torch.float64)
    value, low, high = log_ratio_interval(logs, logs - 3e5, divide_by=2.0)
    assert value == pytest.approx(1.5e5)
    assert low == pytest.approx(high)
