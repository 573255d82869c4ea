"""Forward gains of nets whose tangents have to be rescaled, against float64 Jacobians."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.growth import measure_growth
from gradaudit.settings import Settings
from tests.jacobians import stage_jacobians
from tests.subjects import opened

SETTINGS = Settings()


class InPlace(nn.Module):
    """Layers that blow up, each followed by a ReLU in place, as a statement or as a value."""

    def __init__(
        self, form: str, scale: float, depth: int, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList(nn.Linear(8, 8, dtype=dtype) for _ in range(depth))
        self.form, self.head = form, nn.Linear(8, 3, dtype=dtype)
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.mul_(scale)  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if self.form == "statement":
                x.relu_()
            elif self.form == "value":
                x = x.relu_()
            elif self.form == "functional":
                nn.functional.relu(x, inplace=True)
            else:
                x = x.relu()
        out: Tensor = self.head(x)
        return out


class Written(nn.Module):
    """Shrinks from layer to layer, and writes each result into a part of what was there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(9))
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.mul_(1e-7)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x[:, :4] = x[:, :4].relu()
        return x


def test_a_change_too_small_for_its_numbers_is_not_called_zero() -> None:
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    subject = opened(Written(), x)
    growth = measure_growth(subject, SETTINGS)
    rows, missing = measure_forward_gain(subject, growth, SETTINGS)
    assert all(row.backward_gain is not None and row.backward_gain.value > 0 for row in rows)
    known = [row.forward_gain for row in rows if row.forward_gain is not None]
    assert 2 < len(known) < len(rows)
    assert all(1e-16 < gain.value < 1e-10 for gain in known)
    assert "too small for its numbers" in missing[0].why


def stage_gains(form: str, scale: float, depth: int) -> list[float]:
    model = InPlace(form, scale, depth)
    x = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    subject = opened(model, x)
    rows, missing = measure_forward_gain(subject, measure_growth(subject, SETTINGS), SETTINGS)
    assert missing == ()
    gains = [row.forward_gain.value for row in rows if row.forward_gain is not None]
    assert len(gains) == depth + 1
    return gains


@pytest.mark.parametrize("scale", [1.0, 1e7, 1e-7, 1e-60])
@pytest.mark.parametrize("form", ["statement", "value", "functional"])
def test_an_operation_in_place_gains_what_a_plain_one_does(form: str, scale: float) -> None:
    plain = stage_gains("plain", scale, 5)
    assert stage_gains(form, scale, 5) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("form", ["plain", "statement", "value"])
def test_the_gains_are_those_of_the_jacobians(form: str) -> None:
    """With unit tangents E ||J v||^2 = ||J||_F^2; few tangents scatter, 1e7 squared per layer."""
    model = InPlace(form, 1e7, 5)
    x = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    stages = [lambda h, layer=layer: layer(h).relu() for layer in model.layers]
    product = torch.eye(x.numel(), dtype=torch.float64)
    logs = [math.log10(float(product.square().sum()))]
    for jacobian in stage_jacobians([*stages, model.head], x):
        product = jacobian @ product
        logs.append(math.log10(float(product.square().sum())))
    truths = [after - before for before, after in pairwise(logs)]
    found = [math.log10(gain) for gain in stage_gains(form, 1e7, 5)]
    assert found == pytest.approx(truths, abs=0.35)


def test_float32_keeps_tangents_in_range_over_a_deep_net_in_place() -> None:
    """Twelve layers of 1e-5 take a tangent to 1e-60; the biases keep the values near one."""
    model = InPlace("statement", 1e-5, 12, torch.float32)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.normal_()  # type: ignore[union-attr, operator]
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    subject = opened(model, x)
    rows, missing = measure_forward_gain(subject, measure_growth(subject, SETTINGS), SETTINGS)
    assert missing == ()
    assert all(row.forward_gain is not None for row in rows)
    assert rows[5].forward_gain is not None
    assert rows[5].forward_gain.value < 1e-8
