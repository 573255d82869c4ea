"""Scales of the sample's tensors against numpy, and who takes the input first."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.data_scale import measure_data
from gradaudit.records import DataRow, Recipe, SampleRow, SubjectRow
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened


def opened_with(model: nn.Module | None, *batches: Batch) -> Opened:
    return Opened(
        model=model,
        weights={},
        batches=batches,
        objective=None,
        recipe=Recipe(),
        make_optimizer=None,
        row=SubjectRow("test", "code", "", 0, 0, 0),
        sample=SampleRow("given", "given", len(batches), None, "test"),
    )


def measure(model: nn.Module | None, *batches: Batch) -> tuple[DataRow, ...]:
    opened = opened_with(model, *batches)
    if model is None:
        return measure_data(opened, Settings())
    with borrowed(model):
        return measure_data(opened, Settings())


def test_numbers_over_all_batches_are_numpys() -> None:
    torch.manual_seed(0)
    batches = [
        Batch((3 + 50 * torch.randn(n, 5) * torch.arange(5),), 1e4 + torch.randn(n)) for n in (8, 3)
    ]
    x, y = measure(nn.Linear(5, 1), *batches)
    values = np.concatenate([batch.inputs[0].numpy().astype(np.float64) for batch in batches])
    assert (x.tensor, x.role, x.dtype, x.shape) == ("input", "input", "float32", (8, 5))
    assert x.mean == pytest.approx(values.mean())
    assert x.std == pytest.approx(values.std())
    assert x.rms == pytest.approx(np.sqrt((values**2).mean()))
    assert (x.minimum, x.maximum) == (values.min(), values.max())
    assert x.worst_feature == int(np.argmax((values**2).mean(axis=0)))
    assert x.worst_feature_mean == pytest.approx(values[:, x.worst_feature].mean())
    assert x.worst_feature_std == pytest.approx(values[:, x.worst_feature].std())
    target = np.concatenate([batch.target.numpy().astype(np.float64) for batch in batches])
    assert (y.tensor, y.role, y.worst_feature) == ("target", "target", None)
    assert y.std == pytest.approx(target.std(), rel=1e-9)  # on a mean 1e4 times as large


def test_worst_feature_is_the_smallest_where_none_is_large() -> None:
    x = torch.tensor([[0.5, 1e-6, 0.0], [-0.5, -1e-6, 0.0]])
    (row,) = measure(nn.Linear(3, 1), Batch((x,)))
    assert row.worst_feature == 1
    (row,) = measure(nn.Linear(3, 1), Batch((x * 100,)))
    assert row.worst_feature == 0


def test_constants_have_no_spread() -> None:
    zeros, fives = measure(None, Batch({"a": torch.zeros(4, 2), "b": torch.full((4, 2), 5.0)}))
    assert (zeros.tensor, zeros.std, zeros.rms, zeros.worst_feature) == ("input 'a'", 0, 0, None)
    assert (fives.mean, fives.std, fives.rms, fives.worst_feature) == (5, 0, 5, 0)


def test_images_have_channels() -> None:
    x = torch.randn(4, 3, 8, 8)
    x[:, 2] *= 200
    (row,) = measure(nn.Conv2d(3, 2, 3), Batch((x,)))
    assert row.worst_feature == 2
    signal = torch.randn(4, 3, 50)
    signal[:, 1] += 70
    (row,) = measure(nn.Conv1d(3, 2, 3), Batch((signal,)))
    assert row.worst_feature == 1
    assert row.worst_feature_mean == pytest.approx(70, abs=1)


def test_sequences_have_features_last() -> None:
    x = torch.randn(4, 50, 3) * torch.tensor([1.0, 1.0, 90.0])
    (row,) = measure(nn.LSTM(3, 2, batch_first=True), Batch((x,)))
    assert row.worst_feature == 2


def test_what_has_no_scale_has_no_row() -> None:
    batch = Batch(
        {"ids": torch.arange(3), "mask": torch.ones(3, dtype=torch.bool), "none": None},
        torch.zeros(0, 4),
    )
    assert measure(None, batch) == ()
    assert measure(None) == ()


def test_entries_that_are_not_finite_are_left_out() -> None:
    x = torch.tensor([[1.0, torch.nan], [3.0, torch.inf]])
    (row,) = measure(None, Batch((x,)))
    assert (row.mean, row.std, row.maximum, row.worst_feature_mean) == (2, 1, 3, 2)
    assert measure(None, Batch((torch.full((2, 2), torch.nan),))) == ()


def test_nested_inputs_and_targets_are_named() -> None:
    state = (torch.ones(1, 2, 4), torch.ones(1, 2, 4))
    batch = Batch((torch.randn(5, 2, 3), state), {"boxes": torch.rand(2, 4)})
    rows = measure(nn.LSTM(3, 4), batch)
    assert [row.tensor for row in rows] == ["input", "input 1[0]", "input 1[1]", "target 'boxes'"]


class Two(nn.Module):
    """Takes two inputs, of which the second alone is normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(6), nn.Linear(12, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.mix(torch.cat([a, self.norm(b.flatten(1))], dim=1))


@pytest.mark.parametrize(
    ("model", "normalized"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)), True),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False), nn.LayerNorm(3)), True),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), False),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), False),
        (nn.Conv2d(3, 3, 1), False),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Sequential(nn.LayerNorm(12))), True),
        (nn.Sequential(nn.GroupNorm(1, 3)), True),
        (nn.Sequential(nn.InstanceNorm2d(3)), True),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), False),
    ],
)
def test_normalization_by_the_model_is_seen(model: nn.Module, normalized: bool) -> None:
    (row,) = measure(model, Batch((torch.randn(4, 3, 2, 2),)))
    assert row.normalized_by_model == normalized


@pytest.mark.parametrize(
    ("norm", "normalized"), [(nn.BatchNorm1d(8), True), (nn.LayerNorm(8), False)]
)
def test_behind_a_layer_a_norm_over_one_sample_keeps_the_offset(
    norm: nn.Module, normalized: bool
) -> None:
    model = nn.Sequential(nn.Linear(6, 8), norm, nn.ReLU(), nn.Linear(8, 1))
    x = 1e3 + torch.randn(64, 6)
    with torch.no_grad():
        spread = model[1](model[0](x)).var(0).mean()
    assert (float(spread) > 0.5) == normalized  # what is left of the samples' differences
    (row,) = measure(model, Batch((x,)))
    assert row.normalized_by_model == normalized


class Functional(nn.Module):
    """What a function makes of the layer's output is not seen, so the norm is not behind it."""

    def __init__(self, bend: bool) -> None:
        super().__init__()
        self.bend, self.enter, self.norm = bend, nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.norm(h.tanh() if self.bend else h)


@pytest.mark.parametrize("bend", [True, False])
def test_a_function_between_layer_and_norm_counts(bend: bool) -> None:
    (row,) = measure(Functional(bend), Batch((torch.randn(4, 6),)))
    assert row.normalized_by_model is not bend


def test_each_input_has_its_own_taker() -> None:
    a, b = measure(Two(), Batch({"a": torch.randn(4, 6), "b": torch.randn(4, 2, 3)}))
    assert (a.normalized_by_model, b.normalized_by_model) == (False, True)


class Stubborn(nn.Module):
    """Catches what its parts raise, and writes down how far it came."""

    came_to: ClassVar[list[int]] = []  # on the class: what an instance holds is put back

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        try:
            y = self.first(x)
        except Exception:
            y = x
        self.came_to.append(len(x))
        return self.rest(y)


def test_the_pass_stops_once_all_inputs_are_taken() -> None:
    model, x = Stubborn(), torch.randn(4, 6)
    model(x)
    assert Stubborn.came_to == [4]
    (row,) = measure(model, Batch((x,)))
    assert row.normalized_by_model
    assert Stubborn.came_to == [4]


def test_the_model_comes_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, Batch((torch.randn(4, 3),)))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_hooks_are_removed_when_forward_raises() -> None:
    model = Two()
    opened = opened_with(model, Batch({"a": torch.randn(4, 6), "b": torch.randn(4)}))
    with pytest.raises(IndexError):  # flatten(1) of one dimension
        measure_data(opened, Settings())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
