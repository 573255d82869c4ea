"""Batch norm folded into the weight before it, against the operator that evaluation applies."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.probes.folding import batch_norm_folds
from gradaudit.probes.surroundings import batch_norms_behind, folds_behind, input_sizes
from gradaudit.probes.trace import record
from gradaudit.probes.weights import measure_weights
from gradaudit.records import NotMeasured, WeightRow, plain
from gradaudit.settings import Settings
from tests.reference import linear_part, top_singular_value


def measure(
    model: nn.Module, x: Tensor
) -> tuple[dict[str, WeightRow], tuple[NotMeasured, ...], dict[str, str]]:
    twin = copy.deepcopy(model)  # the forward pass in training mode moves running statistics
    leaf = x.clone().requires_grad_()  # as the audit has it, so that padding leaves a node too
    trace = record(twin, lambda: twin(leaf))
    behind = batch_norms_behind(twin, trace)
    folds = folds_behind(twin, trace, batch_norm_folds(model))
    rows, missing = measure_weights(model, input_sizes(twin, trace), {}, Settings(), folds)
    plain([*rows, *missing])  # raises on NaN and infinity
    return {row.parameter: row for row in rows}, missing, behind


def trained(norm: nn.Module) -> nn.Module:
    """A batch norm with statistics, scales of both signs and shifts of its own."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.05, 4.0)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


PAIRS = [
    (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), (2, 3, 6, 5)),
    (nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), nn.BatchNorm2d(6), (2, 4, 7, 7)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6), (2, 4, 3, 4)),
    (nn.Conv1d(2, 3, 5, padding=2), nn.BatchNorm1d(3, affine=False), (2, 2, 9)),
    (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3, eps=0.1), (2, 2, 3, 3, 4)),
    (nn.Linear(5, 4), nn.BatchNorm1d(4), (3, 5)),
    *(
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode), nn.BatchNorm2d(4), (2, 3, 6, 5))
        for mode in ("circular", "reflect", "replicate")
    ),
]


class TestFoldedNorm:
    @pytest.mark.parametrize(("layer", "norm", "shape"), PAIRS, ids=str)
    def test_it_is_the_norm_of_both_at_evaluation(
        self, layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]
    ) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(copy.deepcopy(layer), trained(copy.deepcopy(norm)), nn.ReLU())
        rows, missing, behind = measure(model, torch.randn(shape))
        assert behind == {"0": "1"}
        row = rows["0.weight"]
        both = copy.deepcopy(model[:2]).double().eval()
        truth = top_singular_value(
            linear_part(lambda x: both(torch.tensor(x)).detach().numpy(), (1, *shape[1:]))
        )
        assert row.folded_with == "1"
        assert row.folded_norm is not None
        assert row.folded_norm.value == pytest.approx(truth, rel=1e-6)
        assert row.folded_norm.low <= truth * (1 + 1e-9)  # type: ignore[operator]
        assert row.folded_norm.high >= truth * (1 - 1e-9)  # type: ignore[operator]
        assert missing == ()

    @pytest.mark.parametrize("scale", [1.0, -3.0, 0.0])
    def test_fresh_statistics_only_scale(self, scale: float) -> None:
        norm = nn.BatchNorm2d(4, eps=0.21)
        nn.init.constant_(norm.weight, scale)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), norm)
        row = measure(model, torch.randn(2, 3, 6, 6))[0]["0.weight"]
        factor = abs(scale) / math.sqrt(1.21)
        assert row.spectral_norm is not None
        assert row.folded_norm is not None
        assert row.folded_norm.value == pytest.approx(row.spectral_norm.value * factor)

    def test_statistics_that_are_no_numbers(self) -> None:
        norm = nn.BatchNorm2d(4)
        assert norm.running_var is not None
        norm.running_var[2] = math.nan
        model = nn.Sequential(nn.Conv2d(3, 4, 3), norm)
        rows, missing, _ = measure(model, torch.randn(2, 3, 6, 6))
        assert rows["0.weight"].folded_norm is None
        assert [(m.what, m.where) for m in missing] == [
            ("norm with batch norm folded in", "0.weight")
        ]

    def test_without_running_statistics_it_is_no_fixed_map(self) -> None:
        norm = nn.BatchNorm2d(4, track_running_stats=False)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), norm)
        row = measure(model, torch.randn(2, 3, 6, 6))[0]["0.weight"]
        assert row.folded_norm is None
        assert row.folded_with == ""


class Paired(nn.Module):
    """Pairs that only the order of calls shows, and neighbours that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_b = nn.BatchNorm2d(4)
        self.conv_a, self.conv_b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm_a = nn.BatchNorm2d(4)
        self.through_relu, self.norm_c = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.norm_d = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.shared, self.norm_e, self.norm_f = (
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
            nn.BatchNorm2d(4),
        )
        self.tokens, self.norm_g = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_b(self.conv_b(self.norm_a(self.conv_a(x))))
        x = self.norm_c(F.relu(self.through_relu(x)))
        y = self.twice(x)
        x = self.norm_d(y) + y
        x = self.norm_e(self.shared(x)) + self.norm_f(self.shared(x))
        # (batch, 4, 4): what the layer counts as features is not what the norm counts
        return self.norm_g(self.tokens(x.flatten(2)[..., :4]))


def test_pairs_are_told_by_the_order_of_calls() -> None:
    behind = measure(Paired(), torch.randn(2, 3, 8, 8))[2]
    assert behind == {"conv_a": "norm_a", "conv_b": "norm_b"}


def test_the_reference_is_a_matrix() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    found = linear_part(lambda x: matrix @ x[0] + 1, (1, 3))
    np.testing.assert_allclose(found, matrix)
