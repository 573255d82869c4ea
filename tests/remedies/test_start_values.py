"""Remedies that change start values, executed on real models."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gradaudit.records import Recipe
from gradaudit.remedies._layers import start_of
from gradaudit.settings import LayerSettings, Settings
from tests.remedies.pasted import (
    ids,
    log10_growth,
    paste,
    plain_net,
    prescription,
    remedy,
    variance,
    weight_rows,
)
from tests.rules.literal import (
    FLAT,
    TRAINED,
    chain,
    data,
    loss,
    measurements,
    module,
    parameter,
    recurrent,
    stage,
    trunk,
    weight,
)


def exploding(model: nn.Module, activation: str, **changes: object) -> object:
    return measurements(
        **{**chain(10.0), **changes}, weights=weight_rows(model, activation), rehearsal=FLAT
    )


def vanishing(model: nn.Module, activation: str) -> object:
    return measurements(**chain(0.1), weights=weight_rows(model, activation), rehearsal=FLAT)


@pytest.mark.parametrize(
    ("activation", "name", "scheme", "needed"),
    [
        (nn.ReLU, "ReLU", "He", 2.0),
        (nn.Tanh, "Tanh", "Glorot", 1.0),
        (nn.SELU, "SELU", "LeCun", 1.0),
        (nn.GELU, "gelu", "He", 2.3517),
        (nn.SiLU, "silu", "He", 2.8107),
    ],
)
def test_a_vanishing_net_is_drawn_anew_at_the_scale_its_activation_needs(
    activation: type[nn.Module], name: str, scheme: str, needed: float
) -> None:
    torch.manual_seed(0)
    model = plain_net(activation)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.mul_(0.5)
    assert log10_growth(model, 64) < -10
    model.float()
    made = remedy(vanishing(model, name), "initialization")
    assert set(made.parameters["schemes"].values()) <= {scheme, "Glorot", "LeCun"}
    assert made.safety == "changes start values"
    paste(made.code, model=model)
    if name in ("gelu", "silu"):  # data has variance 1 already
        assert variance(model[0].weight) == pytest.approx(1.0, rel=0.06)
    assert variance(model[4].weight) == pytest.approx(needed, rel=0.06)
    assert model[4].bias.abs().max() == 0
    assert abs(log10_growth(model, 64)) < 2.5


def test_an_exploding_tanh_net_is_brought_to_its_critical_point() -> None:
    torch.manual_seed(0)
    model = plain_net(nn.Tanh)
    for layer in model[::2]:
        nn.init.normal_(layer.weight)
    before = log10_growth(model, 64)
    model.float()
    paste(remedy(exploding(model, "Tanh"), "initialization").code, model=model)
    assert before > 10
    assert abs(log10_growth(model, 64)) < 2


def test_layers_whose_start_the_settings_spare_are_not_drawn_anew() -> None:
    torch.manual_seed(0)
    model = plain_net(nn.Tanh)
    for layer in model[::2]:
        nn.init.normal_(layer.weight)
    found = exploding(model, "Tanh")
    everything = remedy(found, "initialization").sets
    spared = Settings(layers=(LayerSettings(match=("4", "6"), ignore=("GA302",)),))
    left = remedy(found, "initialization", spared).sets
    assert {"4.weight", "6.weight"} <= {*everything}
    assert left == tuple(name for name in everything if name not in ("4.weight", "6.weight"))


def test_a_deep_sigmoid_net_becomes_a_critical_tanh_net() -> None:
    torch.manual_seed(0)
    model = plain_net(nn.Sigmoid)
    assert log10_growth(model, 64) < -20
    model.float()
    made = remedy(vanishing(model, "Sigmoid"), "initialization")
    assert "AFTER_SIGMOID" in made.code
    paste(made.code, model=model)
    # The first layer is fed data, all others the mean 1/2 of a sigmoid.
    assert model[0].bias.abs().max() == 0
    expected = -0.5 * model[6].weight.sum(dim=1)
    assert torch.allclose(model[6].bias, expected, atol=1e-5)
    assert log10_growth(model, 64) > -6


def test_a_narrow_deep_net_is_drawn_orthogonal() -> None:
    torch.manual_seed(0)
    model = plain_net(nn.ReLU, depth=30, width=16)
    made = remedy(vanishing(model, "ReLU"), "initialization")
    assert set(made.parameters["schemes"].values()) == {"orthogonal"}
    paste(made.code, model=model)
    product = model[2].weight @ model[2].weight.T
    assert torch.allclose(product, 2 * torch.eye(16), atol=2e-3)


@pytest.mark.parametrize(("outputs", "inputs"), [(32, 8), (8, 32)])
def test_an_orthogonal_start_keeps_the_mean_square_per_unit(outputs: int, inputs: int) -> None:
    row = weight(0, 0.1, shape=(outputs, inputs), fan_in=inputs, activation="ReLU")
    start = start_of(row, measurements(weights=(row,)), narrow=True)
    matrix = nn.init.orthogonal_(torch.empty(outputs, inputs), gain=start.gain)
    assert variance(matrix) == pytest.approx(2.0, rel=1e-5)


def test_convolutions_are_drawn_by_their_fan_in() -> None:
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, bias=False))
    made = remedy(vanishing(model, "relu"), "initialization")
    paste(made.code, model=model)
    assert made.parameters["std"]["0.weight"] == pytest.approx(math.sqrt(2 / 72), rel=1e-3)
    assert variance(model[0].weight) == pytest.approx(2.0, rel=0.15)


def test_identical_units_are_drawn_apart() -> None:
    model = plain_net(nn.Tanh, depth=3)
    nn.init.constant_(model[2].weight, 0.1)
    seen = measurements(weights=weight_rows(model, "Tanh"), rehearsal=FLAT)
    made = remedy(seen, "initialization")
    assert list(made.parameters["std"]) == ["2.weight"]
    paste(made.code, model=model)
    assert model[2].weight.unique().numel() > 1000


def test_learned_weights_are_left_alone() -> None:
    model = plain_net(nn.Tanh)
    for layer in model[::2]:
        nn.init.normal_(layer.weight)
    seen = replace(exploding(model, "Tanh"), state=TRAINED)
    assert ids(seen) == []


def test_a_reparametrized_weight_is_not_set_by_a_name_it_does_not_have() -> None:
    rows = tuple(weight(i, 64.0) for i in range(3))
    known = tuple(parameter(f"layers.{i}.weight") for i in (0, 2))
    seen = measurements(**chain(10.0), weights=rows, parameters=known, rehearsal=FLAT)
    std = remedy(seen, "initialization").parameters["std"]
    assert list(std) == ["layers.0.weight", "layers.2.weight"]


# --- residual branches


class Block(nn.Module):
    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 64, bias=bias), nn.Linear(64, 64, bias=bias)
        nn.init.normal_(self.inner.weight, std=64**-0.5)
        nn.init.normal_(self.outer.weight, std=32**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(self.inner(x).relu())


def residual(blocks: int, bias: bool = False) -> tuple[nn.Sequential, dict]:
    """A net whose every block doubles the squared gradient, and what the audit sees of it."""
    torch.manual_seed(0)
    made = [Block(bias) for _ in range(blocks)]
    model = nn.Sequential(nn.Linear(64, 64), nn.Identity(), *made)
    stages = (
        stage(0),
        *(
            stage(
                i + 1,
                2.0,
                name=f"{i + 2}",
                residual=True,
                parameters=(f"{i + 2}.inner.weight", f"{i + 2}.outer.weight"),
            )
            for i in range(blocks)
        ),
    )
    grown = trunk(chain(2.0, blocks)["trunk"].total_growth_log10)
    return model, {"stages": stages, "trunk": grown, "weights": weight_rows(model, "")}


def test_residual_branches_are_scaled_to_a_bounded_product() -> None:
    model, rows = residual(20)
    before = log10_growth(model, 64)  # about 2 ** 20
    model.float()
    seen = measurements(**rows)
    made = remedy(seen, "residual-branches")
    assert made.parameters["factor"] == pytest.approx(20**-0.5, rel=1e-3)
    assert made.parameters["weights"][0] == "2.outer.weight"
    paste(made.code, model=model)
    assert before > 5
    assert log10_growth(model, 64) < 0.8
    assert "skip-connections" not in ids(seen)


def test_many_branches_under_an_adaptive_method_are_zeroed_instead() -> None:
    model, rows = residual(40, bias=True)
    adam = measurements(**rows, recipe=Recipe("adam", 1e-3))
    assert "residual-branches" in ids(measurements(**rows))
    assert "residual-branches" not in ids(adam)
    paste(remedy(adam, "zeroed-branches").code, model=model)
    assert all(block.outer.bias.abs().max() == 0 for block in model[2:])
    assert all(block.inner.weight.abs().max() > 0 for block in model[2:])
    assert log10_growth(model, 64) == pytest.approx(0.0, abs=1e-9)


def test_skips_are_shown_where_no_start_values_explain_the_growth() -> None:
    stages = (stage(0), *(stage(i, 2.0, modules=(f"n{i}",)) for i in range(1, 21)))
    norms = tuple(module(f"n{i}", "BatchNorm1d") for i in range(1, 21))
    seen = measurements(**{**chain(2.0), "stages": stages}, modules=norms, rehearsal=FLAT)
    made = remedy(seen, "skip-connections")
    assert made.safety == "changes architecture: shown, not applied"
    block = paste(made.code)["Residual"](nn.Linear(8, 8), 8)
    assert block(torch.randn(2, 8)).shape == (2, 8)


# --- recurrent


class Echo(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn


def through_time(kind: str, growth: float, steps: int = 300) -> object:
    row = replace(recurrent(growth), type=kind, steps=steps)
    return measurements(recurrent=(row,), rehearsal=FLAT)


@pytest.mark.parametrize("growth", [16.0, -40.0])
@pytest.mark.parametrize("rnn", [nn.RNN(3, 16, num_layers=2), nn.RNNCell(3, 16)])
def test_plain_recurrent_weights_become_orthogonal(growth: float, rnn: nn.Module) -> None:
    model = Echo(rnn)
    made = remedy(through_time(type(rnn).__name__, growth), "recurrent-initialization")
    paste(made.code, model=model)
    for key, matrix in rnn.named_parameters():
        if key.startswith("weight_hh"):
            assert torch.allclose(matrix @ matrix.T, torch.eye(16), atol=1e-5)


def test_a_relu_rnn_gets_the_identity() -> None:
    model = Echo(nn.RNN(3, 16, nonlinearity="relu"))
    paste(remedy(through_time("RNN", 16.0), "recurrent-initialization").code, model=model)
    assert torch.equal(model.rnn.weight_hh_l0, torch.eye(16))


def reach(rnn: nn.Module, steps: int) -> float:
    torch.manual_seed(0)
    x = torch.randn(steps, 4, 3, requires_grad=True)
    rnn(x)[0][-1].sum().backward()
    return float(x.grad[0].norm() / x.grad[-1].norm())


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_a_gated_module_remembers_its_sequence(kind: type[nn.Module], gates: int) -> None:
    torch.manual_seed(0)
    model = Echo(kind(3, 32, bidirectional=True))
    assert reach(model.rnn, 300) < 1e-20
    made = remedy(through_time(kind.__name__, -60.0), "recurrent-initialization")
    paste(made.code, model=model)
    rnn = model.rnn
    total = (rnn.bias_ih_l0 + rnn.bias_hh_l0).chunk(gates)
    assert total[1].min() >= 0
    assert total[1].max() > math.log(100)
    assert total[1].max() <= math.log(299)
    if gates == 4:
        assert torch.equal(total[0], -total[1])
    assert rnn.bias_ih_l0_reverse.chunk(gates)[1].max() > 3
    assert reach(rnn, 300) > 1e-3
    for gate in rnn.weight_hh_l0.chunk(gates):
        assert torch.allclose(gate @ gate.T, torch.eye(32), atol=1e-5)


def test_over_few_steps_the_forget_bias_is_one_as_a_sum() -> None:
    model = Echo(nn.LSTMCell(3, 16))
    made = remedy(through_time("LSTMCell", -12.0, steps=8), "recurrent-initialization")
    paste(made.code, model=model)
    forget = (model.rnn.bias_ih + model.rnn.bias_hh).chunk(4)[1]
    assert torch.equal(forget, torch.ones(16))


def test_a_module_without_biases_and_an_explosion_leave_the_gates_alone() -> None:
    model = Echo(nn.LSTM(3, 16, bias=False))
    paste(remedy(through_time("LSTM", -60.0), "recurrent-initialization").code, model=model)
    assert "STEPS" not in remedy(through_time("LSTM", 16.0), "recurrent-initialization").code


def test_a_note_or_a_cell_of_unknown_make_gets_no_new_weights() -> None:
    assert "recurrent-initialization" not in ids(through_time("MyCell", 16.0))
    assert ids(measurements(recurrent=(recurrent(0.0),))) == []


# --- head, units


def test_a_confident_head_is_drawn_smaller() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 256), nn.Tanh(), nn.Linear(256, 10))
    nn.init.normal_(model[2].weight)
    stages = (
        stage(0, output_rms=0.5),
        stage(1, role="head", parameters=("2.weight", "2.bias")),
    )
    seen = measurements(
        loss=loss(initial=30.0), stages=stages, weights=weight_rows(model, "Tanh"), rehearsal=FLAT
    )
    made = remedy(seen, "head-scale")
    assert made.parameters["std"]["2.weight"] == pytest.approx(0.3 / (0.5 * 16), rel=1e-3)
    paste(made.code, model=model)
    logits = 0.5 * torch.randn(1000, 256) @ model[2].weight.T
    assert float(logits.detach().std()) == pytest.approx(0.3, rel=0.15)


def test_dead_units_are_reset_and_a_leaky_activation_is_shown() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    nn.init.constant_(model[0].bias, -15.0)
    stages = (stage(0, modules=("0", "1"), parameters=("0.weight", "0.bias")),)
    seen = measurements(
        modules=(module("1", "ReLU", dead_fraction=1.0),),
        stages=stages,
        weights=weight_rows(model, "ReLU"),
        rehearsal=FLAT,
    )
    assert ids(seen) == ["unit-reset", "leaky-activation"]
    x = torch.randn(128, 64)
    assert (model[:2](x) == 0).all()
    paste(remedy(seen, "unit-reset").code, model=model)
    assert float((model[:2](x) == 0).all(dim=0).float().mean()) < 0.05
    paste(remedy(seen, "leaky-activation").code, model=model)
    assert isinstance(model[1], nn.LeakyReLU)
    assert ids(replace(seen, state=TRAINED, loss=loss(initial=9.0))) == ["leaky-activation"]


def test_saturated_units_are_reset_at_their_own_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    nn.init.normal_(model[0].weight, std=5.0)
    stages = (stage(0, modules=("0", "1"), parameters=("0.weight", "0.bias")),)
    seen = measurements(
        modules=(module("1", "Tanh", saturated_fraction=0.98),),
        stages=stages,
        weights=weight_rows(model, "Tanh"),
        rehearsal=FLAT,
    )
    paste(remedy(seen, "unit-reset").code, model=model)
    assert float((model[:2](torch.randn(128, 64)).abs() > 0.99).float().mean()) < 0.05


def test_data_comes_before_weights_and_weights_before_the_recipe() -> None:
    model = plain_net(nn.Tanh)
    for layer in model[::2]:
        nn.init.normal_(layer.weight)
    seen = replace(exploding(model, "Tanh"), data=(data(std=1e4),), recurrent=(recurrent(16.0),))
    assert [each.kind for each in prescription(seen).remedies] == [
        "data",
        "initialization",
        "initialization",
        "recipe",
    ]
