"""Growth of random nets against closed forms: limits over wide layers and many initializations.

That an interval holds this very net's Jacobian is ``test_growth.py``'s and ``test_real_nets.py``'s.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.ensembles import WIDTH, Residual, agree, growths, log_gains, mean_log_growth, plain

# For ReLU with He weights E ln ||J u||^2 = -2.5 sum 1/n for one u; a batch only lessens it.
FINITE_WIDTH = 2.5 / WIDTH
# With a norm, or a variance that itself fluctuates from layer to layer, twice that.
FINITE_NORM = 5 / WIDTH

PHI: dict[str, nn.Module] = {
    "ReLU": nn.ReLU(),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "tanh": nn.Tanh(),
    "ELU": nn.ELU(),
    "SELU": nn.SELU(),
}


@pytest.mark.parametrize(
    ("phi", "variance", "gain"),
    [("ReLU", None, 1 / 6), ("linear", None, 1 / 3), ("ReLU", 2.0, 1.0), ("linear", 1.0, 1.0)],
)
def test_plain_layers_grow_by_variance_times_mean_square_slope(
    phi: str, variance: float | None, gain: float
) -> None:
    activation = PHI.get(phi, nn.Identity())
    means = mean_log_growth(lambda: plain(activation, variance), (16, WIDTH))
    assert agree(means, math.log(gain), FINITE_WIDTH)


@pytest.mark.parametrize(
    ("phi", "gain"),
    [
        ("ReLU", 1.0),
        ("LeakyReLU", 1.0),
        ("GELU", 1.072032),
        ("SiLU", 1.066634),
        ("tanh", 1.177807),
        ("ELU", 1.035905),
        ("SELU", 1.071575),
    ],
)
def test_layer_norm_grows_by_mean_square_slope_over_mean_square(phi: str, gain: float) -> None:
    means = mean_log_growth(lambda: plain(PHI[phi], 1.0, norm="layer"), (16, WIDTH))
    assert agree(means, math.log(gain), FINITE_NORM)


@pytest.mark.parametrize(
    ("phi", "gain"),
    [
        ("ReLU", math.pi / (math.pi - 1)),
        ("LeakyReLU", 1.2436),
        ("GELU", 1.3188),
        ("SiLU", 1.2121),
        ("tanh", 1.177807),
        ("ELU", 1.0790),
        ("SELU", 1.071575),
    ],
)
def test_batch_norm_grows_as_the_limit_of_large_batches(phi: str, gain: float) -> None:
    batch = 64
    means = mean_log_growth(lambda: plain(PHI[phi], 1.0, norm="batch"), (batch, WIDTH), skip=2)
    finite_batch = 1.2 / batch  # ReLU's exact values approach their limit as 1.15 / B
    assert agree(means, math.log(gain), FINITE_NORM + finite_batch)


@pytest.mark.parametrize(
    ("batch", "gain"),
    [
        (8, 1.788190),
        (16, 1.589950),
        (32, 1.521953),
        (64, 1.493063),
        (128, 1.479681),
        (256, 1.473234),
    ],
)
def test_batch_norm_relu_explodes_as_the_closed_form_of_its_batch(batch: int, gain: float) -> None:
    """Yang et al. 2019: the gain tends to the closed form as depth makes the batch symmetric."""
    means = mean_log_growth(
        lambda: plain(nn.ReLU(), 1.0, norm="batch", depth=8), (batch, WIDTH), skip=4
    )
    assert agree(means, math.log(gain), FINITE_NORM)


@pytest.mark.parametrize("batch", [8, 16])
def test_linear_batch_norm_grows_by_what_small_batches_cost(batch: int) -> None:
    means = mean_log_growth(
        lambda: plain(nn.Identity(), 1.0, norm="batch", depth=8), (batch, WIDTH), skip=4
    )
    assert agree(means, math.log((batch - 2) / (batch - 3)), FINITE_NORM)


@pytest.mark.parametrize(
    ("weight", "chi"), [(1.5, 0.938636), (2.0, 1.047666), (4.0, 1.342402), (1.760955, 1.0)]
)
def test_tanh_grows_at_the_mean_field_rate(weight: float, chi: float) -> None:
    """Bias variance 0.05; the last case is the critical weight variance."""
    # From N(0, 1) inputs the activations reach their fixed point within a few layers.
    means = mean_log_growth(
        lambda: plain(nn.Tanh(), weight, bias=0.05, depth=10), (8, WIDTH), skip=6
    )
    assert agree(means, math.log(chi), FINITE_NORM)


def test_finite_width_lowers_and_spreads_the_log_growth_of_one_direction() -> None:
    """He-ReLU: E ln ||Ju||^2 = -2.5 sum 1/n, Var = 5 sum 1/n; raw moments are heavy-tailed."""
    width, depth, count = 64, 6, 300
    # One output: every cotangent arrives as the same direction, so the gain is one direction's.
    found = growths(
        lambda: plain(nn.ReLU(), 2.0, width=width, depth=depth, outputs=1), (1, width), count=count
    )
    totals = torch.tensor([sum(log_gains(growth, 1)) for growth in found], dtype=torch.float64)
    layers = depth - 1
    second_order = layers * 10 / width**2
    assert agree(totals, -2.5 * layers / width, second_order)
    variance = 5 * layers / width
    assert abs(float(totals.var()) - variance) <= 3 * variance * math.sqrt(2 / count) + second_order


@pytest.mark.parametrize(
    ("norm", "scale", "total"), [(False, 1.0, 1024.0), (False, 10**-0.5, 2.5937), (True, 1.0, 11.0)]
)
def test_ten_residual_blocks_grow_as_their_branches_allow(
    norm: bool, scale: float, total: float
) -> None:
    """2^L without a norm, (1 + 1/L)^L with branches scaled by 1/sqrt(L), L + 1 with pre-norm."""
    found = growths(lambda: Residual(norm=norm, scale=scale), (8, WIDTH))
    totals = torch.tensor([sum(log_gains(growth, 0)) for growth in found], dtype=torch.float64)
    assert agree(totals, math.log(total), 10 * FINITE_WIDTH)
