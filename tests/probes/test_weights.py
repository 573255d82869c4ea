"""Rows for every weight of live models and of bags of tensors, against numpy's truths."""

from __future__ import annotations

import copy
import dataclasses
import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from gradaudit.probes.weights import measure_weights
from gradaudit.records import NotMeasured, WeightRow, plain
from gradaudit.settings import Settings
from tests.reference import (
    convolution_matrix,
    top_singular_value,
    transposed_convolution_matrix,
)

SETTINGS = Settings()


def measure(
    source: nn.Module | dict[str, Tensor],
    sizes: dict[str, tuple[int, ...]] | None = None,
    activations: dict[str, str] | None = None,
) -> tuple[dict[str, WeightRow], tuple[NotMeasured, ...]]:
    rows, missing = measure_weights(source, sizes or {}, activations or {}, SETTINGS)
    plain([*rows, *missing])  # raises on NaN and infinity
    return {row.parameter: row for row in rows}, missing


def value(row: WeightRow) -> float:
    assert row.spectral_norm is not None
    return row.spectral_norm.value


def held(row: WeightRow, truth: float, relative: float = 1e-6) -> bool:
    estimate = row.spectral_norm
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    slack = 1e-9 * truth
    assert estimate.low - slack <= truth <= estimate.high + slack
    return estimate.value == pytest.approx(truth, rel=relative)


class TestDense:
    def test_every_field_of_a_linear_layer(self) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 200), nn.ReLU())
        rows, missing = measure(model, activations={"0": "ReLU"})
        row = rows["0.weight"]
        weight = model[0].weight.detach().double().numpy()
        assert (row.module, row.kind, row.type, row.shape) == ("0", "dense", "Linear", (200, 300))
        assert held(row, top_singular_value(weight))
        assert row.reshaped_norm == value(row)
        frobenius = np.linalg.norm(weight)
        assert row.rms == pytest.approx(frobenius / math.sqrt(weight.size))
        assert row.stable_rank == pytest.approx(frobenius**2 / top_singular_value(weight) ** 2)
        assert row.fan_in == 300
        assert row.random_edge == pytest.approx(row.rms * (math.sqrt(200) + math.sqrt(300)))
        assert row.critical_edge == pytest.approx((math.sqrt(200) + math.sqrt(300)) / 300**0.5)
        assert row.random_edge == pytest.approx(value(row), rel=0.05)
        assert row.finite
        assert not row.identical_rows
        assert row.activation == "ReLU"
        assert missing == ()

    @pytest.mark.parametrize(
        ("shape", "edge"), [((1024, 1024), 1.1547), ((2000, 500), 1.7321), ((300, 1200), 0.8660)]
    )
    def test_torchs_default_lies_at_its_edge(self, shape: tuple[int, int], edge: float) -> None:
        """(sqrt m + sqrt n) / sqrt(3 n), as m and n grow."""
        torch.manual_seed(15)
        row = measure(nn.Linear(shape[1], shape[0]))[0]["weight"]
        assert row.random_edge == pytest.approx(edge, rel=2e-3)
        assert value(row) == pytest.approx(edge, rel=0.015)

    def test_attention(self) -> None:
        torch.manual_seed(1)
        model = nn.MultiheadAttention(32, 4)
        rows, _ = measure(model)
        assert set(rows) == {"in_proj_weight", "out_proj.weight"}
        assert rows["in_proj_weight"].kind == "dense"
        truth = top_singular_value(model.in_proj_weight.detach().numpy())
        assert held(rows["in_proj_weight"], truth)

    def test_a_transformers_conv1d_is_dense_and_stored_inputs_first(self) -> None:
        transformers = pytest.importorskip("transformers")
        layer = transformers.pytorch_utils.Conv1D(24, 8)  # 8 inputs, 24 outputs
        rows, _ = measure(layer)
        assert rows["weight"].kind == "dense"
        assert rows["weight"].fan_in == 8
        with torch.no_grad():
            layer.weight.copy_(torch.arange(8.0)[:, None].expand(8, 24))
        assert measure(layer)[0]["weight"].identical_rows

    def test_a_weight_stored_inputs_first_is_told_by_its_bias(self) -> None:
        rows, _ = measure({"fc.weight": torch.randn(8, 24), "fc.bias": torch.zeros(24)})
        assert rows["fc.weight"].fan_in == 8

    def test_a_scale_of_normalisation_is_its_largest_entry(self) -> None:
        norm = nn.LayerNorm((4, 6))
        with torch.no_grad():
            norm.weight[1, 2] = -3.0
        row = measure(norm)[0]["weight"]
        assert row.kind == "other"
        assert value(row) == 3.0


class TestEmbedding:
    def test_the_largest_row_norm(self) -> None:
        torch.manual_seed(2)
        model = nn.Embedding(500, 64)
        row = measure(model)[0]["weight"]
        truth = float(np.linalg.norm(model.weight.detach().double().numpy(), axis=1).max())
        assert row.kind == "embedding"
        assert value(row) == pytest.approx(truth, rel=1e-12)
        assert row.random_edge == pytest.approx(truth, rel=0.1)
        assert row.critical_edge == pytest.approx(row.random_edge, rel=0.02)  # N(0,1), one-hot

    @pytest.mark.parametrize("name", ["wte.weight", "tok_emb.weight", "embeddings.0.weight"])
    def test_by_name_in_a_bag(self, name: str) -> None:
        assert measure({name: torch.randn(50, 8)})[0][name].kind == "embedding"
        assert measure({"member.weight": torch.randn(50, 8)})[0]["member.weight"].kind == "dense"

    @pytest.mark.parametrize(
        ("name", "shape", "kind"),
        [
            ("embeddings.patch_embeddings.projection.weight", (16, 3, 4, 4), "convolution"),
            ("patch_embed.proj.weight", (16, 3, 8, 8), "convolution"),
            ("patch_embedding.weight", (16, 3, 4, 4), "convolution"),
            ("time_embedding.linear_1.weight", (24, 24), "dense"),
            ("time_embed.0.weight", (24, 24), "dense"),
            ("embedding.weight", (24, 24), "dense"),
        ],
    )
    def test_a_layer_inside_an_embedding_is_no_table(
        self, name: str, shape: tuple[int, ...], kind: str
    ) -> None:
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(16))
        owner = name.removesuffix(".weight")
        row = measure({name: weight, f"{owner}.bias": torch.zeros(shape[0])})[0][name]
        assert row.kind == kind
        # A kernel's stride is not known; where it is the kernel's size it is this matrix.
        truth = top_singular_value(weight.flatten(1).numpy())
        assert row.spectral_norm is not None
        assert row.spectral_norm.low <= truth * (1 + 1e-6)  # type: ignore[operator]
        assert truth <= row.spectral_norm.high * (1 + 1e-6)  # type: ignore[operator]

    @pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
    @pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
    def test_rows_are_no_longer_than_the_forward_pass_makes_them(
        self, kind: type[nn.Embedding], norm_type: float
    ) -> None:
        torch.manual_seed(17)
        model = kind(50, 16, max_norm=1.5, norm_type=norm_type)
        with torch.no_grad():
            model.weight[:10] *= 0.01
        row, before = measure(model)[0]["weight"], model.weight.detach().clone()
        one_each = torch.arange(50) if kind is nn.Embedding else torch.arange(50)[:, None]
        lengths = np.linalg.norm(model(one_each).detach().double().numpy(), axis=1)
        assert value(row) == pytest.approx(lengths.max(), rel=1e-6)
        assert row.stable_rank == pytest.approx((lengths**2).sum() / lengths.max() ** 2, rel=1e-5)
        assert row.rms == pytest.approx(float(before.double().square().mean().sqrt()))

    def test_a_learned_position_table_of_three_dimensions(self) -> None:
        table = torch.randn(1, 20, 8)
        row = measure({"pos_embed": table})[0]["pos_embed"]
        assert value(row) == pytest.approx(float(table[0].norm(dim=1).max()), rel=1e-6)


class TestRecurrent:
    @pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
    def test_norm_of_the_whole_and_radius_of_the_worst_gate(self, kind: type[nn.RNNBase]) -> None:
        torch.manual_seed(3)
        model = kind(5, 12)
        rows, _ = measure(model)
        assert {row.kind for row in rows.values()} == {"recurrent"}
        hidden = model.weight_hh_l0.detach().double().numpy()
        row = rows["weight_hh_l0"]
        assert held(row, top_singular_value(hidden))
        gates = np.split(hidden, len(hidden) // 12)
        radius = max(np.abs(np.linalg.eigvals(gate)).max() for gate in gates)
        assert row.spectral_radius == pytest.approx(radius, rel=1e-6)
        assert rows["weight_ih_l0"].spectral_radius is None

    def test_a_cell_and_a_bag_alike(self) -> None:
        cell = nn.LSTMCell(4, 6)
        live, bag = measure(cell)[0], measure(dict(cell.state_dict()))[0]
        assert live["weight_hh"].spectral_radius is not None
        assert bag["weight_hh"].spectral_radius == live["weight_hh"].spectral_radius

    def test_a_projection_is_not_square(self) -> None:
        rows, missing = measure(nn.LSTM(4, 6, proj_size=3))
        assert rows["weight_hh_l0"].spectral_radius is None
        assert rows["weight_hr_l0"].spectral_norm is not None
        (gap,) = missing
        assert (gap.what, gap.where) == ("spectral radius", "weight_hh_l0")
        assert "through a projection" in gap.why


CONVOLUTIONS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(2, 1)),
    nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", stride=2),
    nn.Conv2d(2, 3, 5, padding="same", padding_mode="replicate"),
]


class TestConvolution:
    @pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
    def test_a_module_on_the_size_it_saw(self, layer: nn.Conv2d) -> None:
        layer = copy.deepcopy(layer)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(4))
        row = measure(nn.ModuleDict({"c": layer}), {"c": (9, 8)})[0]["c.weight"]
        padding = (2, 2) if layer.padding == "same" else layer.padding
        kernel = layer.weight.detach().double().numpy()
        matrix = convolution_matrix(
            kernel,
            (9, 8),
            layer.stride,
            padding,
            layer.dilation,
            groups=layer.groups,
            mode=layer.padding_mode,
        )
        assert held(row, top_singular_value(matrix))
        assert row.input_size == (9, 8)
        assert row.fan_in == kernel[0].size
        rank = (np.linalg.norm(matrix) / top_singular_value(matrix)) ** 2
        assert row.stable_rank == pytest.approx(rank, rel=1e-6)
        reshaped = top_singular_value(kernel.reshape(len(kernel), -1))
        assert row.reshaped_norm == pytest.approx(reshaped, rel=1e-9)

    @pytest.mark.parametrize(
        "layer",
        [
            nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1),
            nn.ConvTranspose2d(4, 2, 3, stride=3, padding=1, output_padding=2, groups=2),
            nn.ConvTranspose2d(2, 3, 3, dilation=2),
        ],
        ids=str,
    )
    def test_a_transposed_module(self, layer: nn.ConvTranspose2d) -> None:
        layer = copy.deepcopy(layer)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(5))
        rows, _ = measure(nn.ModuleDict({"c": layer}), {"c": (5, 4)})
        matrix = transposed_convolution_matrix(
            layer.weight.detach().double().numpy(),
            (5, 4),
            stride=layer.stride,
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )
        x = torch.randn(1, layer.in_channels, 5, 4, dtype=torch.float64)
        plain_layer = copy.deepcopy(layer).double()
        bias = plain_layer(torch.zeros_like(x))
        np.testing.assert_allclose(
            (plain_layer(x) - bias).detach().flatten(), matrix @ x.flatten().numpy(), atol=1e-10
        )
        assert held(rows["c.weight"], top_singular_value(matrix))
        assert rows["c.weight"].input_size == (5, 4)

    @pytest.mark.parametrize("stride", [1, 2, 4])
    def test_the_edge_foretells_a_wide_random_kernel(self, stride: int) -> None:
        layer = nn.Conv2d(24, 32, 4, stride=stride, padding=1)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(6))
        row = measure(layer, {"": (24, 24)})[0]["weight"]
        assert row.random_edge is not None
        assert value(row) == pytest.approx(row.random_edge, rel=0.1)

    def test_without_a_size_one_is_assumed_and_said(self) -> None:
        rows, missing = measure(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)))
        assert rows["0.weight"].input_size == (32, 32)
        assert len(missing) == 1
        assert missing[0].where == "0.weight, 1.weight"
        assert "32 per dimension was assumed" in missing[0].why

    def test_a_kernel_longer_than_the_assumed_size(self) -> None:
        rows, _ = measure(nn.Conv1d(1, 4, 80, stride=4))
        assert rows["weight"].input_size == (80,)

    def test_a_bag_gives_an_interval_for_every_stride_and_padding(self) -> None:
        kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(7))
        rows, missing = measure({"c.weight": kernel})
        row = rows["c.weight"]
        assert row.kind == "convolution"
        assert row.input_size is None
        for stride, padding in [(1, 0), (1, 1), (2, 1), (3, 0)]:
            geometry = ((9, 9), (stride,) * 2, (padding,) * 2, (1, 1))
            truth = top_singular_value(convolution_matrix(kernel.double().numpy(), *geometry))
            assert row.spectral_norm is not None
            assert row.spectral_norm.low <= truth * (1 + 1e-9)  # type: ignore[operator]
            assert truth <= row.spectral_norm.high * (1 + 1e-9)  # type: ignore[operator]
        assert any("stride, padding and input size" in item.why for item in missing)

    def test_a_bag_s_depthwise_kernel_is_bounded_for_both_groupings(self) -> None:
        kernel = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(8))
        rows, missing = measure({"c.weight": kernel})
        estimate = rows["c.weight"].spectral_norm
        assert estimate is not None
        for groups in (1, 6):
            matrix = convolution_matrix(
                kernel.double().numpy(), (8, 8), (1, 1), (1, 1), (1, 1), groups=groups
            )
            truth = top_singular_value(matrix)
            assert estimate.low <= truth <= estimate.high  # type: ignore[operator]
        assert any("depthwise" in item.why for item in missing)


class TestAsUsed:
    def test_parametrized_weights_are_measured_as_the_forward_pass_sees_them(self) -> None:
        torch.manual_seed(9)
        layer = parametrizations.weight_norm(nn.Linear(20, 30))
        with torch.no_grad():
            layer.parametrizations.weight.original0.mul_(7.0)
        rows, _ = measure(layer)
        assert set(rows) == {"weight"}
        assert held(rows["weight"], top_singular_value(layer.weight.detach().numpy()))

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_old_style_weight_norm(self) -> None:
        layer = nn.utils.weight_norm(nn.Linear(20, 30))
        rows, _ = measure(layer)
        assert set(rows) == {"weight"}
        assert held(rows["weight"], top_singular_value(layer.weight.detach().numpy()))

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_an_old_style_spectral_norm_run_in_eval_mode_first(self) -> None:
        """Its vectors are random until a training step, so evaluation divides by next to nothing.

        The attribute still holds the plain weight then; what the forward pass uses is far larger.
        """
        torch.manual_seed(13)
        layer = nn.utils.spectral_norm(nn.Linear(256, 256)).eval()
        rows, _ = measure(layer)
        with torch.no_grad():
            layer(torch.zeros(1, 256))
        truth = top_singular_value(layer.weight.detach().numpy())
        assert truth > 5.0
        assert held(rows["weight"], truth, relative=1e-4)
        new = parametrizations.spectral_norm(nn.Linear(256, 256)).eval()
        assert value(measure(new)[0]["weight"]) == pytest.approx(1.0, abs=0.05)

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_an_old_style_spectral_norm_in_training_is_that_of_the_next_step(self) -> None:
        torch.manual_seed(14)
        layer = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
        before = {name: t.clone() for name, t in layer.state_dict().items()}
        first, second = (measure(layer)[0]["weight"] for _ in range(2))
        assert first == second
        assert all(torch.equal(before[name], t) for name, t in layer.state_dict().items())
        layer(torch.zeros(1, 3, 32, 32))
        assert first.reshaped_norm == pytest.approx(
            top_singular_value(layer.weight.detach().flatten(1).numpy()), rel=1e-5
        )

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_old_style_weight_norm_of_a_recurrent_weight_after_its_parameter_moved(self) -> None:
        layer = nn.utils.weight_norm(nn.LSTM(4, 5), "weight_hh_l0")
        with torch.no_grad():
            layer.weight_hh_l0_g.mul_(3.0)
        rows, _ = measure(layer)
        assert set(rows) == {"weight_hh_l0", "weight_ih_l0"}
        layer(torch.zeros(2, 1, 4))
        assert held(rows["weight_hh_l0"], top_singular_value(layer.weight_hh_l0.detach().numpy()))

    def test_pruned_weights(self) -> None:
        layer = nn.Linear(20, 30)
        prune.random_unstructured(layer, "weight", 0.7)
        prune.random_unstructured(layer, "weight", 0.5)
        rows, _ = measure(layer)
        assert set(rows) == {"weight"}
        masked = (layer.weight_orig * layer.weight_mask).detach().numpy()
        assert held(rows["weight"], top_singular_value(masked))

    def test_nothing_of_the_model_moves(self) -> None:
        torch.manual_seed(10)
        model = nn.Sequential(
            parametrizations.spectral_norm(nn.Linear(20, 30)),
            nn.Conv2d(3, 4, 3),
            parametrizations.orthogonal(nn.Linear(8, 8)),
        ).train()
        before = {name: t.clone() for name, t in model.state_dict().items()}
        random = torch.get_rng_state()
        rows, _ = measure(model)
        assert value(rows["0.weight"]) == pytest.approx(1.0, abs=0.2)
        assert value(rows["2.weight"]) == pytest.approx(1.0, abs=1e-5)
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert torch.equal(random, torch.get_rng_state())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())

    def test_tied_weights_once(self) -> None:
        model = nn.ModuleDict({"inside": nn.Embedding(40, 8), "head": nn.Linear(8, 40)})
        model["head"].weight = model["inside"].weight
        assert set(measure(model)[0]) == {"inside.weight"}
        assert set(measure(dict(model.state_dict()))[0]) == {"inside.weight"}

    def test_weights_under_one_parametrization_once(self) -> None:
        first, second = (parametrizations.weight_norm(nn.Linear(8, 8)) for _ in range(2))
        assert set(measure(nn.Sequential(first, second))[0]) == {"0.weight", "1.weight"}
        second.parametrizations = first.parametrizations
        assert torch.equal(first.weight, second.weight)
        assert set(measure(nn.Sequential(first, second))[0]) == {"0.weight"}

    def test_a_parametrized_conv1d_is_still_stored_inputs_first(self) -> None:
        class Doubled(nn.Module):
            def forward(self, weight: Tensor) -> Tensor:
                return 2 * weight

        transformers = pytest.importorskip("transformers")
        layer = transformers.pytorch_utils.Conv1D(24, 8)
        nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
        row = measure(layer)[0]["weight"]
        assert (row.kind, row.type, row.fan_in) == ("dense", "Conv1D", 8)
        assert held(row, top_singular_value(layer.weight.detach().numpy()))

    def test_a_raising_parametrization_is_not_measured(self) -> None:
        class Raises(nn.Module):
            broken = False

            def forward(self, weight: Tensor) -> Tensor:
                if self.broken:
                    raise RuntimeError("out of order")
                return weight

        layer = nn.Linear(4, 4)
        nn.utils.parametrize.register_parametrization(layer, "weight", Raises())
        layer.parametrizations.weight[0].broken = True
        rows, missing = measure(layer)
        assert rows == {}
        assert missing[0].why == "its parametrization raised RuntimeError: out of order"


class TestWhatCannotBeMeasured:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        "layer", [nn.Linear(6, 5), nn.Conv2d(2, 3, 3), nn.Embedding(6, 5), nn.RNN(5, 5)], ids=str
    )
    def test_a_weight_that_is_not_finite(self, bad: float, layer: nn.Module) -> None:
        layer = copy.deepcopy(layer)
        name, weight = next(iter(layer.named_parameters()))
        with torch.no_grad():
            weight.fill_(2.0).flatten()[3] = bad
        rows, missing = measure(layer)
        row = rows[name]
        assert not row.finite
        assert row.spectral_norm is None
        assert row.stable_rank is None
        assert row.rms == pytest.approx(2.0)
        assert NotMeasured("spectral norm", name, "it has entries that are NaN or infinite") in (
            missing
        )

    def test_a_norm_past_float64(self) -> None:
        rows, missing = measure({"a.weight": torch.full((30, 30), 1e308, dtype=torch.float64)})
        assert rows["a.weight"].spectral_norm is None
        assert any("overflows" in item.why for item in missing)

    @pytest.mark.parametrize(
        ("model", "why"),
        [
            (nn.LazyLinear(4), "lazy parameter"),
            (nn.Linear(3, 4, device="meta"), "meta device"),
        ],
        ids=["lazy", "meta"],
    )
    @pytest.mark.filterwarnings("ignore:Lazy modules")
    def test_no_values(self, model: nn.Module, why: str) -> None:
        rows, missing = measure(model)
        assert rows == {}
        assert why in missing[0].why

    def test_integers_and_empty_tensors_in_a_bag(self) -> None:
        bag = {"mask": torch.ones(4, 4, dtype=torch.int64), "e.weight": torch.zeros(0, 4)}
        rows, missing = measure(bag)
        assert rows == {}
        assert [item.where for item in missing] == ["e.weight"]

    def test_a_use_nobody_knows(self) -> None:
        rows, missing = measure(nn.Bilinear(3, 4, 5))
        assert rows["weight"].kind == "other"
        assert rows["weight"].spectral_norm is None
        assert "Bilinear" in missing[0].why

    @pytest.mark.parametrize("shape", [(4, 16, 16), (4, 3, 3, 3), (2, 2, 3, 3, 3)])
    def test_a_stack_of_a_live_module_s_own_is_no_kernel(self, shape: tuple[int, ...]) -> None:
        class Experts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.randn(shape))

        rows, missing = measure(Experts())
        assert rows["weight"].kind == "other"
        assert rows["weight"].spectral_norm is None
        assert "Experts" in missing[0].why

    def test_reparametrized_tensors_in_a_bag(self) -> None:
        layer = parametrizations.weight_norm(nn.Linear(4, 6))
        rows, missing = measure(dict(layer.state_dict()))
        assert rows == {}
        assert all("--build" in item.why for item in missing)


class TestDegenerate:
    def test_zero_weights(self) -> None:
        for layer in (nn.Linear(5, 6), nn.Conv2d(2, 3, 3), nn.Embedding(5, 6)):
            nn.init.zeros_(layer.weight)
            row = measure(layer)[0]["weight"]
            assert value(row) == 0.0
            assert row.stable_rank == 0.0
            assert row.identical_rows
            assert row.initialization == "zeros"

    def test_identical_rows(self) -> None:
        layer = nn.Linear(5, 6)
        nn.init.constant_(layer.weight, 0.2)
        assert measure(layer)[0]["weight"].identical_rows
        with torch.no_grad():
            layer.weight[5, 0] = 0.3
        assert not measure(layer)[0]["weight"].identical_rows
        assert not measure(nn.Linear(5, 1))[0]["weight"].identical_rows


def test_a_gpt2_block_and_its_embedding_are_quick() -> None:
    torch.manual_seed(11)
    model = nn.Sequential(nn.Embedding(50257, 768), nn.Linear(768, 3072), nn.Linear(3072, 768))
    measure(nn.Linear(768, 768))  # threads and libraries awake
    start = time.process_time()
    measure(model)
    assert time.process_time() - start < 5.0


def test_the_same_settings_give_the_same_rows() -> None:
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(700, 600), nn.Conv2d(3, 8, 3))
    first, second = (measure_weights(model, {}, {}, SETTINGS) for _ in range(2))
    assert first == second
    other = measure_weights(model, {}, {}, dataclasses.replace(SETTINGS, seed=1))
    assert other != first
