"""Names of initializations by their statistics, and fresh against really trained nets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradaudit.probes.state import judge_state, judged_by_loss
from gradaudit.probes.weights import measure_weights
from gradaudit.records import Estimate, LossRow, StateRow
from gradaudit.settings import Settings

SETTINGS = Settings()
SHAPES = [(16, 16), (8, 40), (64, 64), (100, 20), (256, 64)]


def name_of(layer: nn.Module, parameter: str = "weight") -> str:
    rows, _ = measure_weights(layer, {}, {}, SETTINGS)
    return next(row.initialization for row in rows if row.parameter == parameter)


def names(init: Callable[[Tensor], object] | None, draws: int = 40) -> dict[str, int]:
    """How often each name was given to this initialization over seeds and shapes."""
    counts: dict[str, int] = {}
    for seed in range(draws):
        torch.manual_seed(seed)
        rows, columns = SHAPES[seed % len(SHAPES)]
        layer = nn.Linear(columns, rows)
        if init is not None:
            init(layer.weight)
        name = name_of(layer)
        counts[name] = counts.get(name, 0) + 1
    return counts


class TestNames:
    @pytest.mark.parametrize(
        ("init", "name"),
        [
            (None, "torch default"),
            (nn.init.kaiming_uniform_, "kaiming uniform"),
            (nn.init.orthogonal_, "orthogonal"),
            (lambda w: nn.init.constant_(w, 0.3), "constant"),
            (nn.init.zeros_, "zeros"),
            (lambda w: nn.init.orthogonal_(w, 2.0), "orthogonal gain 2"),
        ],
        ids=["default", "kaiming", "orthogonal", "constant", "zeros", "gain"],
    )
    def test_sharp_ones_always(self, init: Callable[[Tensor], object] | None, name: str) -> None:
        assert names(init) == {name: 40}

    @pytest.mark.parametrize(
        ("init", "name"),
        [
            (nn.init.kaiming_normal_, "kaiming normal"),
            (nn.init.normal_, "N(0,1)"),
            (lambda w: nn.init.normal_(w, 0, 0.02), "normal std 0.02"),
            (lambda w: nn.init.trunc_normal_(w, 0, 0.02), "normal std 0.02"),
        ],
        ids=["kaiming", "one", "hugging face", "timm"],
    )
    def test_laws_mostly_and_unknown_never(
        self, init: Callable[[Tensor], object], name: str
    ) -> None:
        """Laws of the same shape and a near scale may be confused, a known one not missed."""
        counts = names(init)
        assert counts[name] >= 32
        assert "unknown" not in counts

    def test_xavier_where_it_differs_from_the_others(self) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(400, 100)
        nn.init.xavier_normal_(layer.weight)
        assert name_of(layer) == "xavier normal"
        nn.init.xavier_uniform_(layer.weight)
        assert name_of(layer) == "xavier uniform"
        nn.init.trunc_normal_(layer.weight, 0, 1, -2, 2)
        assert name_of(layer).startswith("truncated normal")
        nn.init.uniform_(layer.weight, -0.3, 0.3)
        assert name_of(layer) == "uniform +-0.3"

    def test_identity_and_its_gain(self) -> None:
        layer = nn.Linear(30, 30)
        nn.init.eye_(layer.weight)
        assert name_of(layer) == "identity"
        with torch.no_grad():
            layer.weight *= 1.05
        assert name_of(layer) == "identity gain 1.05"

    @pytest.mark.parametrize(
        ("layer", "parameter"),
        [
            (nn.LSTM(8, 24), "weight_hh_l0"),
            (nn.GRU(8, 24), "weight_ih_l0"),
            (nn.RNN(8, 24), "weight_hh_l0"),
            (nn.Conv2d(8, 16, 3), "weight"),
            (nn.Conv1d(8, 16, 5), "weight"),
            (nn.ConvTranspose2d(8, 16, 3), "weight"),
        ],
        ids=str,
    )
    def test_defaults_of_other_layers(self, layer: nn.Module, parameter: str) -> None:
        torch.manual_seed(1)
        for module in layer.modules():
            module.reset_parameters()  # type: ignore[operator]
        assert name_of(layer, parameter) == "torch default"

    @pytest.mark.parametrize("scale", [2.0**-700, 2.0**-250, 2.0**250, 2.0**700])
    def test_a_law_is_told_at_any_scale(self, scale: float) -> None:
        torch.manual_seed(5)
        layer = nn.Linear(60, 40).double()
        with torch.no_grad():
            for fill, law in ((layer.weight.normal_, "normal"), (layer.weight.uniform_, "uniform")):
                fill()
                layer.weight.sub_(layer.weight.mean()).mul_(scale)
                assert name_of(layer).startswith(law)
            nn.init.orthogonal_(layer.weight, gain=scale)
            assert name_of(layer) == f"orthogonal gain {scale:.3g}"

    def test_the_weight_is_only_read(self) -> None:
        layer = nn.Linear(60, 40).double()
        before = layer.weight.detach().clone()
        assert name_of(layer) == "torch default"
        assert torch.equal(layer.weight, before)

    def test_a_padding_row_is_overlooked(self) -> None:
        torch.manual_seed(2)
        assert name_of(nn.Embedding(64, 300, padding_idx=0)) == "N(0,1)"

    def test_orthogonal_gates(self) -> None:
        layer = nn.LSTM(8, 32)
        for gate in layer.weight_hh_l0.chunk(4):
            nn.init.orthogonal_(gate)
        assert name_of(layer, "weight_hh_l0") == "orthogonal"

    @pytest.mark.parametrize("spoil", ["outlier", "rank one", "row", "mean", "edge"])
    def test_what_training_does_is_noticed(self, spoil: str) -> None:
        torch.manual_seed(3)
        layer = nn.Linear(200, 150)
        if spoil != "edge":
            nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            if spoil == "outlier":
                layer.weight[3, 4] = 1.0
            if spoil == "rank one":
                layer.weight += 0.02 * torch.outer(torch.randn(150), torch.randn(200))
            if spoil == "row":
                layer.weight[:5] *= 2
            if spoil == "mean":
                layer.weight[:, :20] += 0.05
            if spoil == "edge":
                layer.weight[0, 0] = 200**-0.5 * 1.001
        assert name_of(layer) == "unknown"


def he_normal(model: nn.Module) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def mlp(bias: bool = True) -> nn.Module:
    sizes = [(20, 64), (64, 64), (64, 64)]
    hidden = [layer for m, n in sizes for layer in (nn.Linear(m, n, bias=bias), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(64, 5, bias=bias))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.reshape(-1, 5, 4))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Linear(4, 32)
        block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.body = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(self.inlet(x.reshape(-1, 5, 4))).mean(1))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)),
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 5),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "mlp without bias": lambda: mlp(bias=False),
    "mlp, He and zero biases": lambda: he_normal(mlp()),
    "cnn": cnn,
    "lstm": Recurrent,
    "transformer": Attention,
}
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3),
}


def judged(source: nn.Module | dict[str, Tensor], settings: Settings = SETTINGS) -> StateRow:
    rows, _ = measure_weights(source, {}, {}, settings)
    return judge_state(rows, source, settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 200) -> None:
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(5, 20, generator=generator)
    for _ in range(steps):
        target = torch.randint(0, 5, (32,), generator=generator)
        x = 0.7 * centres[target] + torch.randn(32, 20, generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()


class TestState:
    @pytest.mark.parametrize("kind", MODELS)
    def test_fresh_models_are_fresh(self, kind: str) -> None:
        for seed in range(10):
            torch.manual_seed(seed)
            model = MODELS[kind]()
            assert judged(model).state == "fresh"
            assert judged(dict(model.state_dict())).state == "fresh"

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.parametrize("kind", MODELS)
    def test_models_after_200_steps_are_trained(self, kind: str, optimizer: str) -> None:
        torch.manual_seed(0)
        model = MODELS[kind]()
        train(model, OPTIMIZERS[optimizer](model))
        row = judged(model)
        assert row.state == "trained", row.how
        assert "fit no known initialization" in row.how
        assert judged(dict(model.state_dict())).state == "trained"

    def test_a_fresh_gpt2_and_a_trained_one(self) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            n_layer=2, n_embd=64, n_head=2, vocab_size=97, bos_token_id=0, eos_token_id=0
        )
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
        assert judged(model).state == "fresh"
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(2)
        for _ in range(100):
            start = torch.randint(0, 97, (8, 1), generator=generator)
            tokens = (start + torch.arange(16)) % 97
            optimizer.zero_grad()
            model(tokens, labels=tokens).loss.backward()
            optimizer.step()
        row = judged(model)
        assert row.state == "trained", row.how

    def test_a_strange_bias_does_not_make_a_model_trained(self) -> None:
        """Chrono initialization of the forget gate is a start, though of no common law."""
        torch.manual_seed(0)
        model = Recurrent()
        with torch.no_grad():
            bias = torch.empty(32).uniform_(1, 50).log()
            model.lstm.bias_ih_l0[32:64] = bias
            model.lstm.bias_ih_l0[:32] = -bias
        assert judged(model).state == "fresh"

    def test_the_setting_decides(self) -> None:
        for state in ("fresh", "trained"):
            row = judged(mlp(), dataclasses.replace(SETTINGS, state=state))
            assert row == StateRow(state, "as given by --state")

    def test_nothing_to_tell_by(self) -> None:
        assert judged(nn.Linear(2, 2)).how.startswith("no tensor large enough")


def test_a_loss_below_what_any_start_reaches_means_learned_weights() -> None:
    fresh = StateRow("fresh", "0 of 3 weights fit no known initialization")
    low = LossRow("mse", "", Estimate.exact(0.1, "loss"), constant=1.0, chance=None)
    assert judged_by_loss(fresh, low).state == "trained"
    assert judged_by_loss(fresh, dataclasses.replace(low, constant=0.15)) is fresh
    assert judged_by_loss(fresh, dataclasses.replace(low, constant=None)) is fresh
    told = StateRow("fresh", "as given by --state")
    assert judged_by_loss(told, low) is told


def test_biases_drawn_from_one_normal_law_are_a_start_and_moved_ones_are_not() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(128, 128) for _ in range(6)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.2)
        nn.init.normal_(layer.bias, std=0.3)
    net = nn.Sequential(*layers)
    rows, _ = measure_weights(net, {}, {}, Settings())
    assert judge_state(rows, net, Settings()).state == "fresh"
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.bias.mul_(0.3 * (i + 1))
    assert judge_state(rows, net, Settings()).state == "trained"
