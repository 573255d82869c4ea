"""Dead and saturated counts that are known by construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.activations import NONLINEARITIES, nonlinearity_of
from gradaudit.probes.gradients import measure_real_loss
from gradaudit.records import ModuleRow
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests import reference
from tests.probes.lossy import Loss, opened

SETTINGS = Settings(effort="standard")
SUM = Loss(lambda output, _: output.double().sum())


def rows(model: nn.Module, *batches: Tensor) -> dict[tuple[str, int], ModuleRow]:
    with borrowed(model, training=True):
        found = measure_real_loss(opened(model, [(x, None) for x in batches], SUM), SETTINGS)
    return {(r.module, r.call): r for r in found.modules}


class Calls(nn.Module):
    """A dense layer of identity weights and a function behind it."""

    def __init__(self, function: object, width: int = 4) -> None:
        super().__init__()
        self.dense, self.function = nn.Linear(width, width, bias=False), function
        with torch.no_grad():
            self.dense.weight.copy_(torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.dense(x))  # type: ignore[operator,no-any-return]


# Units 0 and 1 never rise above zero, unit 2 does in one sample, unit 3 always.
SIGNS = torch.tensor([[-1.0, 0.0, -1.0, 1.0], [-2.0, -3.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    ("layer", "scale", "dead"),
    [
        (nn.ReLU(), 1.0, 0.5),
        (nn.ReLU(inplace=True), 1.0, 0.5),
        (nn.ReLU6(), 1.0, 0.5),
        (nn.GELU(), 1.0, 0.0),
        (nn.SiLU(), 1.0, 0.0),
        (nn.LeakyReLU(), 1.0, None),
        (nn.Tanh(), 1.0, None),
    ],
)
def test_dead_units_behind_a_dense_layer(
    layer: nn.Module, scale: float, dead: float | None
) -> None:
    found = rows(Calls(layer), SIGNS * scale)["function", 0]
    assert found.dead_fraction == dead
    assert found.units == (None if dead is None else 4)


@pytest.mark.parametrize("layer", [nn.GELU(), nn.SiLU(), nn.SiLU(inplace=True), nn.Mish()])
def test_units_in_the_flat_negative_tail_are_dead(layer: nn.Module) -> None:
    # Unit 1 touches zero in a sample, unit 2 is positive in one: only unit 0 stays in the tail.
    assert rows(Calls(layer), SIGNS * 10)["function", 0].dead_fraction == 0.25


@pytest.mark.parametrize(
    "function",
    [F.relu, torch.relu, torch.relu_, Tensor.relu, lambda x: F.relu(x, inplace=True)],
)
def test_function_calls_are_named_after_the_module_that_runs(function: object) -> None:
    model = nn.Sequential(Calls(function), Calls(function))
    found = rows(model, SIGNS)
    for name in ("0 (relu)", "1 (relu)"):
        assert found[name, 0].dead_fraction == 0.5
        assert found[name, 0].type == "relu"
    assert found["0 (relu)", 0].output_rms == pytest.approx(math.sqrt(6 / 8))
    assert found["0 (relu)", 0].gradient_rms is not None


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.clamp(min=0), "clamp"),
        (lambda x: torch.clamp(x, 0.0, 6.0), "clamp"),
        (lambda x: x.clamp_(torch.zeros(())), "clamp"),
        (lambda x: x.clip(0), "clip"),
        (lambda x: torch.clamp_min(x, 0), "clamp_min"),
        (lambda x: torch.maximum(x, torch.zeros(())), "maximum"),
        (lambda x: torch.max(torch.zeros_like(x), x), "max"),
        (lambda x: F.threshold(x, 0.0, 0.0), "threshold"),
        (nn.Threshold(0.0, 0.0), "threshold"),
    ],
)
def test_a_bound_at_zero_is_a_relu(function: object, name: str) -> None:
    found = [row for row in rows(Calls(function), SIGNS).values() if row.type == name]
    assert [(row.dead_fraction, row.units) for row in found] == [(0.5, 4)]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(min=-1.0),
        lambda x: x.clamp(max=0.0),
        lambda x: F.threshold(x, 0.0, 1.0),
        lambda x: torch.maximum(x, -x),
        lambda x: x - torch.max(x, 0).values,
        lambda x: x * x.detach().clamp(min=0),  # a mask
    ],
)
def test_other_bounds_are_not(function: object) -> None:
    assert all(row.dead_fraction is None for row in rows(Calls(function), SIGNS).values())


@pytest.mark.parametrize(
    "penalty",
    [
        lambda output: (output - 10).clamp(min=0),
        lambda output: (output - 10).relu(),
        lambda output: nn.functional.relu(output - 10),
        lambda output: (output * 100).tanh(),
    ],
)
def test_a_hinge_of_the_loss_has_no_units(penalty: Callable[[Tensor], Tensor]) -> None:
    hinge = Loss(lambda output, _: penalty(output).sum())
    with borrowed(model := Calls(nn.Identity()), training=True):
        found = measure_real_loss(opened(model, [(SIGNS, None)], hinge), SETTINGS)
    assert all(row.dead_fraction is None for row in found.modules)
    assert all(row.saturated_fraction is None for row in found.modules)


def test_a_function_called_twice_has_two_rows() -> None:
    found = rows(Calls(lambda x: torch.tanh(x).mul(1e3).tanh()), torch.full((2, 4), 0.5))
    assert found["(tanh)", 0].saturated_fraction == 0.0
    assert found["(tanh)", 1].saturated_fraction == 1.0


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_units_of_a_convolution_are_its_channels(dims: int, functional: bool) -> None:
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    layer = kinds[dims](1, 3, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))  # type: ignore[union-attr]
    model = Functional(layer) if functional else nn.Sequential(layer, nn.ReLU())
    found = rows(model, torch.randn(2, 1, *[5] * dims))
    row = found["(relu)" if functional else "1", 0]
    assert (row.units, row.dead_fraction) == (3, pytest.approx(2 / 3))


class Functional(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x))


def test_positions_of_a_sequence_are_not_units() -> None:
    x = SIGNS.expand(5, 2, 4)
    assert rows(Calls(nn.ReLU()), x)["function", 0].dead_fraction == 0.5


def test_a_unit_that_one_batch_wakes_is_not_dead() -> None:
    awake = torch.tensor([[1.0, -1.0, -1.0, -1.0]])
    assert rows(Calls(nn.ReLU()), SIGNS, awake)["function", 0].dead_fraction == 0.25


def test_nan_does_not_count_as_dead() -> None:
    model = Calls(nn.ReLU())
    spoilt = SIGNS.clone()
    spoilt[0, 0] = torch.nan
    with borrowed(model, training=True):
        result = measure_real_loss(opened(model, [(spoilt, None)], SUM), SETTINGS)
    found = {r.module: r for r in result.modules}["function"]
    # The dense layer spreads the NaN over its sample: every unit has seen one.
    assert found.dead_fraction == 0.0
    assert found.output_rms is None


@pytest.mark.parametrize(
    ("layer", "values", "share"),
    [
        (nn.Tanh(), [-9.0, 0.0, 1.0, 3.0], 0.5),
        (nn.Sigmoid(), [-9.0, 0.0, 4.0, 6.0], 0.5),
        (nn.Softsign(), [-200.0, 0.0, 9.0, 200.0], 0.5),
        (nn.Hardtanh(), [-1.0, 0.0, 0.5, 2.0], 0.5),
        (nn.Hardtanh(-3.0, 3.0), [-1.0, 0.0, 0.5, 4.0], 0.25),
        (nn.Hardsigmoid(), [-4.0, 0.0, 2.0, 3.0], 0.5),
        (torch.tanh, [-9.0, 0.0, 1.0, 3.0], 0.5),
        (torch.sigmoid, [-9.0, 0.0, 4.0, 6.0], 0.5),
        (F.softsign, [-200.0, 0.0, 9.0, 200.0], 0.5),
        (lambda x: F.hardtanh(x, -3.0, max_val=3.0), [-1.0, 0.0, 0.5, 4.0], 0.25),
    ],
)
def test_saturated_share(layer: object, values: list[float], share: float) -> None:
    found = rows(Calls(layer), torch.tensor([values, values]))
    shares = [r.saturated_fraction for r in found.values() if r.saturated_fraction is not None]
    assert shares == [share]


@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_the_output_of_a_plain_rnn_is_its_nonlinearity(kind: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(2, 4)
            with torch.no_grad():
                for parameter in self.rnn.parameters():
                    parameter.zero_()
                bias = self.rnn.bias_ih if kind == "RNNCell" else self.rnn.bias_ih_l0
                bias.copy_(torch.tensor([5.0, 0.0, 0.0, -5.0]))

        def forward(self, x: Tensor) -> Tensor:
            result = self.rnn(x)
            return result if kind == "RNNCell" else result[0]  # type: ignore[no-any-return]

    assert rows(Net(), torch.randn(3, 2))["rnn", 0].saturated_fraction == 0.5


@pytest.mark.parametrize(
    ("name", "function"), [("gelu", F.gelu), ("silu", F.silu), ("mish", F.mish)]
)
def test_tails_begin_where_the_slope_falls_below_two_percent(name: str, function: object) -> None:
    x = torch.linspace(-20, 10, 300_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x).sum(), x)  # type: ignore[operator]
    steep = slope.abs() >= 0.02 * slope.abs().max()
    first = float(x.detach()[steep.nonzero()[0, 0]])
    assert NONLINEARITIES[name].tail == pytest.approx(first, abs=2e-3)


def test_hand_written_approximations_are_taken_by_their_name() -> None:
    class MyNewGELU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3)))

    found = rows(Calls(MyNewGELU()), SIGNS * 10)
    assert found["function", 0].dead_fraction == 0.25
    assert not [name for name, _ in found if "(tanh)" in name]

    class MyGELUBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(2, 2)

    assert nonlinearity_of(MyGELUBlock()) is None


# --- brute force: random nets, counted entry by entry in float64

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
}
DIES = ("relu", "relu6", "gelu", "silu", "mish", "hardswish")


def before(seed: int, units: int = 24, places: int = 40) -> Tensor:
    """Pre-activations [places, units] of which some stay far below zero and some go far beyond."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.linspace(-14.0, 6.0, units)
    return centre + 1.5 * torch.randn(places, units, generator=generator)


def dead_by_slope(z: Tensor, name: str) -> float:
    """Share of units where the slope stays below 2% of its peak left of it, at every place."""
    z = z.double().requires_grad_()
    (slope,) = torch.autograd.grad(SLOPES[name](z).sum(), z)
    grid = torch.linspace(-20, 10, 30_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(SLOPES[name](grid).sum(), grid)
    flat = (slope.abs() < 0.02 * slopes.abs().max()) & (z < 0)
    return reference.dead_share((~flat).double().numpy(), 0.0)


class Shaped(nn.Module):
    """A layer of identity weights over units in dimension 1 or last, and the activation."""

    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function
        with torch.no_grad():
            for weight in (layer.weight,):
                weight.copy_(torch.eye(24).view(24, 24, *[1] * (weight.dim() - 2)))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def module_of(name: str) -> nn.Module:
    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish}
    kinds |= {"hardswish": nn.Hardswish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    kinds |= {"softsign": nn.Softsign, "hardtanh": nn.Hardtanh, "hardsigmoid": nn.Hardsigmoid}
    return kinds[name]()


@pytest.mark.parametrize("called", ["module", "function", "checkpointed", "in place"])
@pytest.mark.parametrize("shape", ["dense", "sequence", "channels"])
@pytest.mark.parametrize("name", SLOPES)
def test_counts_are_those_of_brute_force(name: str, shape: str, called: str) -> None:
    function: Callable[[Tensor], Tensor] = SLOPES[name]
    if called == "module":
        function = module_of(name)
    elif called == "in place":
        if name in ("gelu", "softsign"):
            pytest.skip("has no form in place")
        function = (
            partial(getattr(F, name), inplace=True) if name in INPLACE else INPLACE_OTHERS[name]
        )
    elif called == "checkpointed":
        function = partial(checkpoint, SLOPES[name], use_reentrant=False)
    z = before(seed=len(name))
    if shape == "dense":
        layer, x = nn.Linear(24, 24, bias=False), z
    elif shape == "sequence":
        layer, x = nn.Linear(24, 24, bias=False), z.view(8, 5, 24)
    else:
        layer = nn.Conv2d(24, 24, 1, bias=False)
        x = z.view(10, 2, 2, 24).permute(0, 3, 1, 2).contiguous()
    found = rows(Shaped(layer, function), x)
    (row,) = [
        r for r in found.values() if r.dead_fraction is not None or r.saturated_fraction is not None
    ]
    if name in DIES:
        assert row.units == 24
        assert row.dead_fraction == pytest.approx(dead_by_slope(z, name))
        assert 0 < row.dead_fraction < 1
    else:
        y = SLOPES[name](z.double())
        past = {
            "tanh": y.abs() > 0.99,
            "softsign": y.abs() > 0.99,
            "sigmoid": (y < 0.01) | (y > 0.99),
        }.get(name, (y == y.min()) | (y == y.max()))
        assert row.saturated_fraction == pytest.approx(float(past.double().mean()))


INPLACE = ("relu", "relu6", "silu", "mish", "hardswish", "hardtanh", "hardsigmoid")
INPLACE_OTHERS = {"tanh": torch.tanh_, "sigmoid": torch.sigmoid_}


def test_gates_of_an_lstm_are_not_taken_for_saturated_units() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2, 4, batch_first=True)
            with torch.no_grad():
                self.lstm.bias_ih_l0[4:8] = 9.0  # forget gates that stand open, as chrono sets them

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0]  # type: ignore[no-any-return]

    found = rows(Net(), torch.randn(3, 5, 2))
    assert all(row.saturated_fraction is None for row in found.values())
