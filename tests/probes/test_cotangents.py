"""Cotangents of any finite size, against float64 Jacobians of layers that were scaled."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.growth import measure_growth
from gradaudit.settings import Settings
from tests.subjects import opened


def scaled_linears(scales: tuple[float, ...], dtype: torch.dtype) -> tuple[nn.Sequential, Tensor]:
    """Linear layers without biases, each times its scale, and a batch of four."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 6, bias=False, dtype=dtype) for _ in scales]
    with torch.no_grad():
        for layer, scale in zip(layers, scales, strict=True):
            layer.weight.mul_(scale)
    return nn.Sequential(*layers), torch.randn(4, 6, dtype=dtype)


def log_norms(model: nn.Sequential, batch: int) -> list[float]:
    """log10 of the Frobenius norm from each layer's input to the output, layers kept near one."""
    product, exponent, found = torch.eye(6, dtype=torch.float64), 0.0, []
    for layer in reversed(model):
        product = product @ layer.weight.detach().double()
        peak = float(product.abs().max())
        product, exponent = product / peak, exponent + math.log10(peak)
        found.append(exponent + math.log10(math.sqrt(batch) * float(product.norm())))
    return found[::-1]


@pytest.mark.parametrize(
    ("scales", "dtype"),
    [
        ((1e60, 1e-60, 1e60), torch.float64),
        ((1e-60, 1e-60, 1e-60), torch.float64),
        ((1e-200, 1e190, 1e200), torch.float64),
        ((1e-100, 1.0, 1e-300), torch.float64),
        ((1.0, 1.0, 3e-38), torch.float32),
        ((1.0, 1e-30, 5e37), torch.float32),
    ],
    ids=str,
)
def test_layers_of_any_scale_have_their_jacobians(
    scales: tuple[float, ...], dtype: torch.dtype
) -> None:
    model, x = scaled_linears(scales, dtype)
    growth = measure_growth(opened(model, x), Settings())
    truths = log_norms(model, len(x))
    assert len(growth.stages) == len(truths)
    for row, truth in zip(growth.stages, truths, strict=True):
        estimate = row.jacobian_norm_log10
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= truth <= estimate.high
        assert estimate.value == pytest.approx(truth, abs=0.15)
        assert estimate.high - estimate.low < 0.6


def test_the_scale_coefficient_does_not_depend_on_how_a_chain_is_scaled() -> None:
    """Linear layers: gradient and activation scales cancel, also where their ratio overflows."""
    found = []
    for scales in ((1.0, 1.0, 1.0), (1e-200, 1e190, 1e200), (1e150, 1e-300, 1e160)):
        model, x = scaled_linears(scales, torch.float64)
        growth = measure_growth(opened(model, x), Settings())
        found.append([row.gsc.value for row in growth.stages if row.gsc is not None])
        assert growth.trunk.gsc is not None
        found[-1].append(growth.trunk.gsc.value)
    assert len(found[0]) == 4
    assert found[1] == pytest.approx(found[0], rel=1e-9)
    assert found[2] == pytest.approx(found[0], rel=1e-9)
