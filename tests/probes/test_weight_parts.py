"""Gates of recurrent weights, and query, key and value, against numpy block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.weights import measure_weights
from gradaudit.records import NotMeasured, WeightRow, plain
from gradaudit.settings import Settings
from tests.reference import top_singular_value

LSTM = ("input", "forget", "cell", "output")
GRU = ("reset", "update", "new")


def measure(
    source: nn.Module | dict[str, Tensor],
) -> tuple[dict[str, WeightRow], tuple[NotMeasured, ...]]:
    rows, missing = measure_weights(source, {}, {}, Settings())
    plain([*rows, *missing])  # raises on NaN and infinity
    return {row.parameter: row for row in rows}, missing


def check(row: WeightRow, weight: Tensor, names: tuple[str, ...], *, square: bool) -> None:
    assert tuple(part.name for part in row.parts) == names
    blocks = np.split(weight.detach().double().numpy(), len(names))
    for part, block in zip(row.parts, blocks, strict=True):
        truth = top_singular_value(block)
        estimate = part.spectral_norm
        assert estimate is not None
        assert estimate.value == pytest.approx(truth, rel=1e-6)
        assert estimate.low <= truth * (1 + 1e-9)  # type: ignore[operator]
        assert estimate.high >= truth * (1 - 1e-9)  # type: ignore[operator]
        assert part.stable_rank == pytest.approx((np.linalg.norm(block) / truth) ** 2, rel=1e-6)
        if square:
            radius = np.abs(np.linalg.eigvals(block)).max()
            assert part.spectral_radius == pytest.approx(radius, rel=1e-6)
        else:
            assert part.spectral_radius is None


class TestGates:
    @pytest.mark.parametrize(
        ("module", "names"),
        [
            (nn.RNN(5, 7, nonlinearity="relu"), ("hidden",)),
            (nn.RNNCell(5, 7), ("hidden",)),
            (nn.LSTM(5, 7, num_layers=2, bidirectional=True), LSTM),
            (nn.LSTMCell(5, 7), LSTM),
            (nn.GRU(9, 7), GRU),
            (nn.GRUCell(7, 7), GRU),
        ],
        ids=str,
    )
    def test_alike_live_and_from_a_state_dict(
        self, module: nn.Module, names: tuple[str, ...]
    ) -> None:
        rows, _ = measure(module)
        bag, _ = measure(dict(module.state_dict()))
        assert rows
        for name, row in rows.items():
            check(row, module.get_parameter(name), names, square="_hh" in name)
            assert bag[name].parts == row.parts
            radii = [p.spectral_radius for p in row.parts if p.spectral_radius is not None]
            assert row.spectral_radius == max(radii, default=None)

    def test_a_projected_lstm_is_no_gru_whatever_its_shape(self) -> None:
        module = nn.LSTM(5, 9, proj_size=4)  # 36 x 4: not 3 x 4 rows, nor 4 x 4
        for rows in (measure(module)[0], measure(dict(module.state_dict()))[0]):
            check(rows["weight_hh_l0"], module.weight_hh_l0, LSTM, square=False)
            check(rows["weight_ih_l0"], module.weight_ih_l0, LSTM, square=False)
            assert rows["weight_hr_l0"].parts == ()

    def test_shapes_that_leave_a_doubt_have_no_gates(self) -> None:
        alone = measure({"cell.weight_ih": torch.randn(12, 5)})[0]
        assert alone["cell.weight_ih"].parts == ()
        odd = measure({"weight_hh": torch.randn(10, 5), "weight_ih": torch.randn(10, 3)})[0]
        assert all(row.parts == () for row in odd.values())

    def test_the_order_of_gates_in_a_users_own_cell_is_not_guessed(self) -> None:
        class Cell(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight_ih = nn.Parameter(torch.randn(20, 3))
                self.weight_hh = nn.Parameter(torch.randn(20, 5))

        cell = Cell()
        names = tuple(f"gate {i}" for i in (1, 2, 3, 4))
        check(measure(cell)[0]["weight_hh"], cell.weight_hh, names, square=True)

    def test_a_weight_under_weight_norm_is_split_as_used(self) -> None:
        module = nn.LSTM(5, 7)
        nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
        with torch.no_grad():
            module.parametrizations.weight_hh_l0.original0.mul_(3.0)
        rows, _ = measure(module)
        check(rows["weight_hh_l0"], module.weight_hh_l0, LSTM, square=True)
        check(rows["weight_ih_l0"], module.weight_ih_l0, LSTM, square=False)

    def test_a_large_gate_has_a_norm_and_no_radius(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gradaudit.probes.recurrent_gates._MAX_RADIUS_SIDE", 6)
        rows, missing = measure(nn.GRU(3, 7))
        row = rows["weight_hh_l0"]
        assert row.spectral_radius is None
        assert all(p.spectral_norm is not None and p.spectral_radius is None for p in row.parts)
        assert [(m.what, m.where) for m in missing] == [("spectral radius", "weight_hh_l0")]

    @pytest.mark.parametrize("fill", [0.0, math.inf])
    def test_degenerate(self, fill: float) -> None:
        module = nn.LSTM(3, 4)
        nn.init.constant_(module.weight_hh_l0, fill)
        row = measure(module)[0]["weight_hh_l0"]
        if fill == 0.0:
            assert all(p.spectral_norm.value == 0.0 for p in row.parts)  # type: ignore[union-attr]
            assert all(p.stable_rank == p.spectral_radius == 0.0 for p in row.parts)
        else:
            assert row.parts == ()

    def test_width_one(self) -> None:
        module = nn.GRU(1, 1)
        check(measure(module)[0]["weight_hh_l0"], module.weight_hh_l0, GRU, square=True)


class TestProjections:
    @pytest.mark.parametrize("source", ["module", "state dict"])
    def test_query_key_and_value_of_a_fused_weight(self, source: str) -> None:
        module = nn.MultiheadAttention(12, 3)
        rows, _ = measure(module if source == "module" else dict(module.state_dict()))
        names = ("query", "key", "value")
        check(rows["in_proj_weight"], module.in_proj_weight, names, square=False)

    def test_rows_that_are_not_three_times_the_columns(self) -> None:
        assert measure({"in_proj_weight": torch.randn(20, 8)})[0]["in_proj_weight"].parts == ()
