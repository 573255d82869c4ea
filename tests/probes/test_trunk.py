"""The trunk is the residual stream, one stage per block, and is refused where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.settings import Settings
from tests.subjects import opened

QUICK = Settings(effort="quick")


def names(growth: Growth) -> list[str]:
    return [row.name for row in growth.stages]


class ResidualMLP(nn.Module):
    """``x = x + f(x)`` in the parent's loop: no module returns the stream."""

    def __init__(self, blocks: int = 6, width: int = 16) -> None:
        super().__init__()
        self.enter = nn.Linear(5, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.leave = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_encoder_has_one_stage_per_layer(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
    net = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    growth = measure_growth(opened(net, torch.randn(2, 5, 16)), QUICK)
    assert names(growth) == [f"layers.{i}" for i in range(4)]
    assert all(row.residual and row.role == "interior" for row in growth.stages)


@pytest.mark.parametrize("wrap", [lambda net: net, Wrapped])
def test_a_residual_mlp_has_one_stage_per_block(wrap) -> None:  # type: ignore[no-untyped-def]
    growth = measure_growth(opened(wrap(ResidualMLP()), torch.randn(4, 5)), QUICK)
    found = [name.removeprefix("inner.") for name in names(growth)]
    assert found == ["enter", *(f"blocks.{i}" for i in range(6)), "leave"]
    assert [row.role for row in growth.stages] == ["inlet", *["interior"] * 6, "head"]


def gpt2(layers: int = 3) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=layers, n_embd=32, n_head=2, vocab_size=64, n_positions=16,
        bos_token_id=0, eos_token_id=0, loss_type="ForCausalLMLoss",
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).train()


def test_gpt2_has_one_stage_per_block_and_a_head_with_tied_weights() -> None:
    ids = torch.randint(0, 64, (2, 8))
    growth = measure_growth(opened(gpt2(), input_ids=ids, labels=ids), QUICK)
    assert names(growth) == [*(f"transformer.h.{i}" for i in range(3)), "lm_head"]
    assert growth.stages[-1].parameters == (
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
        "lm_head.weight",
    )
    assert growth.stages[0].role == "interior"  # the path starts at the embedding's output


def test_a_plain_net_has_one_stage_per_layer() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(16, 3),
    )  # fmt: skip
    growth = measure_growth(opened(net, torch.randn(2, 3, 8, 8)), QUICK)
    assert names(growth) == ["0", "3", "8"]
    assert growth.stages[0].parameters == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_a_position_table_that_is_added_makes_no_stage() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.place = nn.Parameter(torch.randn(1, 6, 8))
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, ids: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(self.embed(ids) + self.place)))

    growth = measure_growth(opened(Net(), torch.randint(0, 11, (3, 6))), QUICK)
    assert names(growth) == ["a", "b"]


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def conv(i: int, o: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU())

        self.down = nn.ModuleList([conv(2, 4), conv(4, 8), conv(8, 16)])
        self.up = nn.ModuleList([conv(24, 8), conv(12, 4)])
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down[0](x)
        b = self.down[1](nn.functional.max_pool2d(a, 2))
        c = self.down[2](nn.functional.max_pool2d(b, 2))
        c = nn.functional.interpolate(c, scale_factor=2)
        d = self.up[0](torch.cat([c, b], 1))
        d = nn.functional.interpolate(d, scale_factor=2)
        return self.out(self.up[1](torch.cat([d, a], 1)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4 + 4 * i, 4, 3, padding=1) for i in range(6))
        self.enter, self.leave = nn.Conv2d(2, 4, 1), nn.Conv2d(28, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.enter(x)]
        for conv in self.convs:
            features.append(torch.relu(conv(torch.cat(features, 1))))
        return self.leave(torch.cat(features, 1))


@pytest.mark.parametrize("net", [UNet(), DenseNet()], ids=["U-Net", "DenseNet"])
def test_without_a_trunk_module_calls_are_listed_and_it_is_said(net: nn.Module) -> None:
    growth = measure_growth(opened(net, torch.randn(2, 2, 8, 8)), QUICK)
    assert not growth.trunk.found
    assert growth.trunk.growth_per_stage is None
    assert "execution order" in growth.trunk.why
    weighted = [n.removesuffix(".weight") for n, p in net.named_parameters() if p.dim() > 1]
    assert sorted(names(growth)) == sorted(weighted)
    assert all(row.jacobian_norm_log10 is not None for row in growth.stages)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)) for _ in range(4)
        )
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_are_stages_with_the_same_gains(reentrant: bool) -> None:
    torch.manual_seed(0)
    net, x = Checkpointed(reentrant), torch.randn(4, 8)
    growth = measure_growth(opened(net, x), QUICK)
    plain = measure_growth(opened(nn.Sequential(*net.blocks), x), QUICK)
    assert names(growth) == [f"blocks.{i}.0" for i in range(4)]
    for mine, other in zip(growth.stages, plain.stages, strict=True):
        assert mine.backward_gain is not None
        assert other.backward_gain is not None
        assert mine.backward_gain.value == pytest.approx(other.backward_gain.value, rel=1e-4)


def test_a_module_called_many_times_has_one_row_per_call() -> None:
    shared = nn.Linear(8, 8)
    net = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), shared)
    growth = measure_growth(opened(net, torch.randn(3, 8)), QUICK)
    assert len(growth.stages) == 3
    assert names(growth) == ["0", "0", "0"]


def test_a_loop_over_time_is_one_stage() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[0], 8)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return self.head(h)

    growth = measure_growth(opened(Loop(), torch.randn(4, 7, 3)), QUICK)
    assert names(growth) == ["cell", "head"]


def test_masks_and_dataclass_outputs_do_not_hide_the_trunk() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    growth = measure_growth(opened(net, src=torch.randn(2, 5, 16), mask=mask), QUICK)
    assert names(growth) == ["layers.0", "layers.1"]


def test_a_decoder_that_attends_to_an_encoder_keeps_the_longer_trunk() -> None:
    net = nn.Transformer(16, 2, 3, 1, 32, batch_first=True)
    growth = measure_growth(opened(net, torch.randn(2, 6, 16), torch.randn(2, 5, 16)), QUICK)
    assert names(growth)[:3] == [f"encoder.layers.{i}" for i in range(3)]
    assert growth.source == 0


def test_forward_gain_of_a_linear_layer_is_its_frobenius_norm_per_input() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(12, 20), nn.Linear(20, 20), nn.Linear(20, 4)]
    subject = opened(nn.Sequential(*layers), torch.randn(64, 12))
    settings = Settings(effort="thorough")
    rows, gaps = measure_forward_gain(subject, measure_growth(subject, settings), settings)
    gain = rows[0].forward_gain
    assert gaps == ()
    assert gain is not None
    assert gain.low is not None
    assert gain.high is not None
    truth = float(layers[0].weight.detach().square().sum()) / 12
    assert gain.low <= truth <= gain.high
    assert gain.high - gain.low < 0.1 * truth


@pytest.mark.parametrize("kind", ["lstm", "attention", "gpt2"])
def test_forward_gain_uses_kernels_that_have_a_forward_derivative(kind: str) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    subject = {
        "lstm": lambda: opened(Last(), torch.randn(4, 6, 3)),
        "attention": lambda: opened(nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16)),
        "gpt2": lambda: opened(gpt2(), input_ids=torch.randint(0, 64, (2, 8))),
    }[kind]()
    settings = Settings()
    rows, gaps = measure_forward_gain(subject, measure_growth(subject, settings), settings)
    assert gaps == ()
    assert all(row.forward_gain is not None and row.forward_gain.value > 0 for row in rows)


def test_where_there_is_no_forward_derivative_the_reason_is_given() -> None:
    settings = Settings()
    subject = opened(Checkpointed(reentrant=True), torch.randn(4, 8))
    rows, gaps = measure_forward_gain(subject, measure_growth(subject, settings), settings)
    assert all(row.forward_gain is None for row in rows)
    assert "no forward derivative" in gaps[0].why
