"""Weights without a model: what each shows by itself, in one pass."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gradaudit.linalg.entries import look_at
from gradaudit.probes.bag import Bag, measure_bag
from gradaudit.probes.weights import measure_weights
from gradaudit.records import WeightRow
from gradaudit.settings import Settings
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights

SETTINGS = Settings()


def in_file(tensors: dict[str, Tensor], read: Counter[str] | None = None) -> StoredWeights:
    """The same, as if they lay in a file; ``read`` counts how often each is asked for."""

    def value(name: str) -> Tensor:
        if read is not None:
            read[name] += 1
        return tensors[name].clone()

    return StoredWeights(
        StoredTensor(name, t.dtype, tuple(t.shape), partial(value, name), t.data_ptr())
        for name, t in tensors.items()
    )


def rows_of(bag: Bag) -> dict[str, WeightRow]:
    return {row.parameter: row for row in bag.rows}


def drawn(*shape: int, seed: int = 0, std: float = 0.05) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std


def test_every_tensor_is_read_once_and_tied_ones_are_measured_once() -> None:
    table, shift = drawn(40, 16), torch.zeros(24)
    tensors = {
        "wte.weight": table,
        "fc.weight": drawn(24, 16, seed=1),
        "fc.bias": shift,
        "other.bias": shift,
        "lm_head.weight": table,
        "steps": torch.tensor(3),
        "phase": torch.ones(4, dtype=torch.complex64),
    }
    read: Counter[str] = Counter()
    bag = measure_bag(in_file(tensors, read), SETTINGS)
    assert list(rows_of(bag)) == ["wte.weight", "fc.weight"]
    assert read == dict.fromkeys(("wte.weight", "fc.weight", "fc.bias", "phase"), 1)


def test_tensors_in_a_file_get_the_rows_they_get_in_memory() -> None:
    net = nn.Sequential(
        nn.Embedding(30, 12), nn.LSTM(12, 12), nn.Conv1d(12, 8, 3), nn.Linear(600, 560)
    )
    tensors = dict(net.state_dict())
    rows, missing = measure_weights(tensors, {}, {}, SETTINGS)
    stored = measure_bag(in_file(tensors), SETTINGS)
    assert (stored.rows, stored.not_measured) == (rows, missing)
    assert measure_bag(StoredWeights.of(tensors), SETTINGS).rows == rows


@pytest.mark.parametrize(
    ("dtype", "off"),
    [
        (torch.float64, 1e-6),
        (torch.float16, 1e-3),
        (torch.bfloat16, 4e-3),
        (torch.float8_e4m3fn, 0.05),
    ],
)
@pytest.mark.parametrize("shape", [(700, 640), (640, 700)])
def test_norms_in_any_precision_are_those_of_the_stored_numbers(
    dtype: torch.dtype, off: float, shape: tuple[int, int]
) -> None:
    weight = drawn(*shape).to(dtype)
    truth = float(torch.linalg.matrix_norm(weight.double(), 2))
    row = rows_of(measure_bag(in_file({"fc.weight": weight}), SETTINGS))["fc.weight"]
    norm = row.spectral_norm
    assert norm is not None
    assert norm.low is not None
    assert norm.high is not None
    assert norm.low <= truth <= norm.high
    assert norm.value == pytest.approx(truth, rel=1e-3)
    assert row.rms == pytest.approx(float(weight.double().square().mean().sqrt()), rel=1e-12)
    assert row.rms == pytest.approx(0.05, rel=0.01 + off)


def test_what_is_not_finite_is_counted_and_named_under_each_name() -> None:
    weight, bias = drawn(8, 8), torch.zeros(8)
    weight[1, 2], weight[3, 3], bias[0] = math.nan, math.inf, -math.inf
    tensors = {"a.weight": weight, "b.weight": drawn(8, 8, seed=2), "b.bias": bias, "c": weight}
    bag = measure_bag(in_file(tensors), SETTINGS)
    assert [row.parameter for row in bag.nonfinite] == ["a.weight", "b.bias", "c"]
    rows = rows_of(bag)
    assert (rows["a.weight"].finite, rows["a.weight"].nonfinite_entries) == (False, 2)
    assert rows["b.weight"].nonfinite_entries == 0


def test_dead_output_units_are_rows_columns_or_channels_as_the_weight_is_stored() -> None:
    dense, turned, kernel = drawn(20, 6), drawn(6, 20, seed=1), drawn(20, 4, 3, 3, seed=2)
    dense[:5] = 0
    dense[7] *= 1e-8  # vanishes beside the others' rounding
    dense[8] *= 1e-6
    turned[:, :4] = 0
    kernel[3] = 0
    bag = measure_bag(
        in_file(
            {
                "dense.weight": dense,
                "turned.weight": turned,
                "turned.bias": torch.zeros(20),
                "kernel.weight": kernel,
                "all.weight": torch.zeros(6, 6),
            }
        ),
        SETTINGS,
    )
    counts = {name: (row.dead_outputs, row.outputs) for name, row in rows_of(bag).items()}
    assert counts == {
        "dense.weight": (6, 20),
        "turned.weight": (4, 20),
        "kernel.weight": (1, 20),
        "all.weight": (6, 6),
    }


def test_the_peak_stands_beside_what_normal_entries_give() -> None:
    weight = drawn(200, 100)
    row = rows_of(measure_bag(in_file({"fc.weight": weight}), SETTINGS))["fc.weight"]
    assert row.peak == pytest.approx(float(weight.abs().max()) / row.rms)
    assert row.random_peak == pytest.approx(math.sqrt(2 * math.log(40_000)))
    assert row.peak is not None
    assert 0.8 < row.peak / row.random_peak < 1.2  # type: ignore[operator]


def test_weights_are_set_beside_those_of_their_part_and_shape() -> None:
    tensors = {f"layers.{i}.up.weight": drawn(16, 8, seed=i, std=0.1 * 2**i) for i in range(5)} | {
        f"layers.{i}.down.weight": drawn(8, 16, seed=i) for i in range(3)
    }
    rows = rows_of(measure_bag(in_file(tensors), SETTINGS))
    ratios = [rows[f"layers.{i}.up.weight"].peer_ratio for i in range(5)]
    assert ratios == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0], rel=0.3)
    assert ratios[2] == 1.0
    assert {row.peers for row in rows.values()} == {5, 0}  # three are too few to tell


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 600_000), (600_000, 1), (70, 9, 500)])
@pytest.mark.parametrize("axis", [0, 1])
def test_entries_are_looked_at_piece_by_piece_as_a_whole(shape: tuple[int, ...], axis: int) -> None:
    tensor = drawn(*shape, std=1.0)
    entries = look_at(tensor, axis)
    assert (entries.count, entries.nonfinite) == (tensor.numel(), 0)
    assert (entries.lowest, entries.highest) == (float(tensor.min()), float(tensor.max()))
    assert entries.frobenius == pytest.approx(float(tensor.double().norm()), rel=1e-12)
    assert (entries.outputs, entries.dead) == (shape[axis], 0)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_norm_of_entries_whose_squares_leave_the_range(size: float) -> None:
    tensor = drawn(30, 30, std=1.0).double() * size
    entries = look_at(tensor)
    assert entries.frobenius == pytest.approx(float((tensor / size).norm()) * size, rel=1e-12)
    assert entries.finite


def test_state_is_told_from_the_same_pass() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    state = measure_bag(in_file(dict(net.state_dict())), SETTINGS).state
    assert state.state == "fresh"
    given = replace(SETTINGS, state="trained")
    assert measure_bag(in_file(dict(net.state_dict())), given).state.how == "as given by --state"
