"""Largest singular values of stages and of the chain: bounds that hold, or the reason why not.

That they are right on real nets is ``test_real_nets.py``'s.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.growth import measure_growth
from gradaudit.probes.singular_values import MOST_STAGES, Found, measure_singular_values
from gradaudit.probes.stage_maps import StageMap, at_tensors, runs_past
from gradaudit.records import Estimate
from gradaudit.settings import Settings
from gradaudit.subject import borrowed
from tests.ensembles import agree, dense
from tests.jacobians import in_float64, stage_jacobians, through_to_output
from tests.probes.lossy import Loss
from tests.subjects import opened

SQUARE = Loss(lambda output, _target: output.square().mean())


def measured(
    model: nn.Module, *inputs: Tensor, effort: str = "standard", cheap: bool | None = True
) -> Found:
    settings = Settings(effort=effort)  # type: ignore[arg-type]
    subject = opened(model, *inputs, objective=SQUARE)
    with borrowed(model):
        growth = measure_growth(subject, settings)
        return measure_singular_values(subject, growth, settings, cheap=cheap)


def holds(estimates: tuple[Estimate, ...], jacobian: Tensor, rounding: float = 1e-9) -> bool:
    expected = torch.linalg.svdvals(jacobian.double())[:3].tolist()
    assert len(estimates) == len(expected)
    slack = rounding * expected[0]
    return all(
        e.low is not None and e.low - slack <= s and (e.high is None or s <= e.high + slack)
        for e, s in zip(estimates, expected, strict=True)
    )


def triple(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def tanh_layers(depth: int, width: int, *, scale: float = 1.0) -> list[nn.Module]:
    return [nn.Sequential(dense(scale**2, width), nn.Tanh()) for _ in range(depth)]


@pytest.mark.parametrize("cheap", [True, False])
def test_intervals_hold_the_float64_jacobians_singular_values(cheap: bool) -> None:
    torch.manual_seed(0)
    layers = [*tanh_layers(4, 50), nn.Linear(50, 6)]
    x = torch.randn(3, 50)
    truths = stage_jacobians(in_float64(layers), x)
    rows, trunk, gaps = measured(nn.Sequential(*layers), x, effort="thorough", cheap=cheap)
    assert gaps == ()
    rounding = 1e-9 if cheap else 1e-5  # a float32 pass
    for row, jacobian in zip(rows, truths, strict=True):
        assert holds(row.top_singular_values, jacobian, rounding)
        assert row.top_singular_values[0].unit == "singular value"
    assert holds(trunk.top_singular_values, through_to_output(truths)[1], rounding)


def test_a_layer_norm_reaches_one_over_the_root_of_its_variance() -> None:
    torch.manual_seed(0)
    norm, width = nn.LayerNorm(12), 12
    identity = nn.Linear(width, width, bias=False)
    nn.init.eye_(identity.weight)
    x = 3 * torch.randn(1, width)
    head = nn.Linear(width, width)
    rows, _, _ = measured(nn.Sequential(identity, norm, head), x)
    variance = float(x.double().var(unbiased=False))
    top = rows[0].top_singular_values[0]
    assert top.value == pytest.approx(1 / math.sqrt(variance + norm.eps), rel=1e-9)


@pytest.mark.parametrize(
    ("phi", "steepest"),
    [
        (nn.GELU(), 1.128904),
        (nn.SiLU(), 1.099839),
        (nn.Mish(), 1.088498),
        (nn.SELU(), 1.758099),
        (nn.Hardswish(), 1.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_an_activation_is_as_steep_as_its_steepest_point(phi: nn.Module, steepest: float) -> None:
    """Units whose biases sweep the activation's argument: the top value is the largest slope."""
    grid = torch.linspace(-4.0, 4.0, 400_001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(phi(grid).sum(), grid)
    steep = grid.detach()[slopes.argsort(descending=True)[:16]]
    points = torch.cat([steep, torch.linspace(-4.0, 4.0, 16)]).float()
    net = nn.Sequential(Shift(points), copy.deepcopy(phi))
    rows, _, _ = measured(net, torch.zeros(1, points.numel()))
    top = rows[0].top_singular_values[0]
    assert top.value == pytest.approx(steepest, rel=1e-4)
    assert top.value <= steepest * (1 + 1e-6)


class Shift(nn.Module):
    """One weight of one row per unit, all ones, and a bias of its own each."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, bias.numel())), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def stack(kind: str, depth: int, width: int) -> tuple[nn.Module, list[nn.Module]]:
    """An inlet, then ``depth`` layers of the kind: the chain behind the first hidden tensor."""
    inlet = nn.Linear(width, width, bias=False)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = dense(2.0 if kind == "ReLU" else 1.0, width)
        layers.append(nn.Sequential(layer, nn.ReLU()) if kind == "ReLU" else layer)
    first = nn.Sequential(inlet, nn.ReLU()) if kind == "ReLU" else inlet
    return nn.Sequential(first, *layers), layers


@pytest.mark.parametrize(
    ("kind", "depth", "limit"),
    [
        ("linear", 1, 4.0),
        ("linear", 2, 6.75),
        ("linear", 3, 9.4815),
        ("linear", 10, 28.5312),
        ("ReLU", 1, 5.8284),
        ("ReLU", 2, 11.0902),
        ("ReLU", 3, 16.4578),
        ("ReLU", 10, 54.411),
    ],
)
def test_the_end_to_end_norm_tends_to_the_closed_form(kind: str, depth: int, limit: float) -> None:
    """Each interval holds its own net's norm; the mean over nets agrees with the limit.

    At width n the top of a product of L square Gaussians lies lower by the mean of the Tracy-Widom
    law, relative 1.2065 L (L + 1)^(-1/3) 2^(-1/3) n^(-2/3) (Liu, Wang and Zhang 2016), and the mean
    of its log by L/n more (2.5 L/n with ReLU), for lognormal reasons.
    """
    width, logs = 100, []
    for seed in range(30):
        torch.manual_seed(seed)
        model, layers = stack(kind, depth, width)
        x = torch.randn(1, width)
        _, trunk, gaps = measured(model, x, effort="quick")
        assert gaps == ()
        assert holds(trunk.top_singular_values, product(model, layers, x), 1e-6)
        logs.append(2 * math.log(trunk.top_singular_values[0].value))
    edge = 1.2065 * depth * (depth + 1) ** (-1 / 3) * 2 ** (-1 / 3) * width ** (-2 / 3)
    finite_width = edge + (1.0 if kind == "linear" else 2.5) * depth / width
    values = torch.tensor(logs, dtype=torch.float64)
    assert agree(values, math.log(limit) - finite_width, finite_width**2)


def product(model: nn.Module, layers: list[nn.Module], x: Tensor) -> Tensor:
    """The chain's Jacobian from its weights and active units alone, in float64."""
    hidden = model[0](x).detach()[0].double()  # type: ignore[operator]
    total = torch.eye(hidden.numel(), dtype=torch.float64)
    for layer in layers:
        dense_layer = layer[0] if isinstance(layer, nn.Sequential) else layer
        weight = dense_layer.weight.detach().double()  # type: ignore[union-attr]
        hidden, total = weight @ hidden, weight @ total
        if isinstance(layer, nn.Sequential):
            total, hidden = (hidden > 0).double()[:, None] * total, hidden.clamp(min=0)
    return total


def test_orthogonal_layers_have_norm_one_and_nothing_else() -> None:
    torch.manual_seed(0)
    model, layers = stack("linear", 10, 100)
    for layer in model.double()[1:]:  # type: ignore[index]
        nn.init.orthogonal_(layer.weight)  # in float64: float32's are so to 1e-7 only
    rows, trunk, _ = measured(model, torch.randn(16, 100, dtype=torch.float64))
    assert len(rows) == 1 + len(layers)
    for estimates in (*(row.top_singular_values for row in rows[1:]), trunk.top_singular_values):
        assert len(estimates) == 3
        for e in estimates:
            assert triple(e) == pytest.approx((1.0, 1.0, 1.0), rel=1e-9)


def test_a_stage_that_passes_nothing_has_singular_values_of_exactly_zero() -> None:
    layers = [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)]
    nn.init.constant_(layers[2].bias, -1e3)  # type: ignore[arg-type]
    rows, trunk, gaps = measured(nn.Sequential(*layers), torch.randn(4, 8))
    assert gaps == ()
    for estimates in (rows[1].top_singular_values, trunk.top_singular_values):
        assert [triple(e) for e in estimates] == [(0.0, 0.0, 0.0)] * 3


def test_width_one_and_batch_one_give_the_one_exact_value() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    rows, trunk, gaps = measured(net, torch.randn(1, 1))
    weights = [abs(float(layer.weight.detach())) for layer in net]  # type: ignore[arg-type]
    assert gaps == ()
    for row, weight in zip(rows, weights, strict=True):
        (only,) = row.top_singular_values
        assert only.value == pytest.approx(weight, rel=1e-6)
        assert only.high == pytest.approx(only.low)
    assert trunk.top_singular_values[0].value == pytest.approx(weights[1] * weights[2], rel=1e-6)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_depth_does_not_leave_float32s_range(scale: float) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8, bias=False) for _ in range(60)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=scale)
    x = scale**-30 * torch.randn(2, 8)  # activations stay within range, the Jacobian does not
    _, trunk, _ = measured(nn.Sequential(*layers), x, effort="thorough", cheap=False)
    assert trunk.top_singular_values[0].value == pytest.approx(scale**59, rel=1e-4)


def test_a_chain_beyond_float64_is_said_to_be() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(200)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=1e-2)
    rows, trunk, gaps = measured(nn.Sequential(*layers), torch.randn(2, 4))
    assert trunk.top_singular_values == ()
    assert any("1e-398" in gap.why and gap.where == "end to end" for gap in gaps)
    assert any("furthest from one" in gap.why for gap in gaps)
    filled = [row for row in rows if row.top_singular_values]
    assert len(filled) == MOST_STAGES


class Once(torch.autograd.Function):
    """An operation whose backward pass cannot be differentiated."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.tanh() ** 2)


class Detached(Once):
    """An operation whose backward pass is differentiable, but not truly."""

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        (x,) = ctx.saved_tensors
        return gradient.detach() * (1 - x.tanh() ** 2)


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("function", [Once, Detached])
def test_an_operation_without_a_second_derivative_is_named_not_guessed(
    function: type[torch.autograd.Function],
) -> None:
    net = nn.Sequential(
        nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), Apply(function.apply), nn.Linear(6, 2)
    )
    rows, trunk, gaps = measured(net, torch.randn(3, 6))
    assert [bool(row.top_singular_values) for row in rows] == [True, False, True]
    assert trunk.top_singular_values == ()
    assert {gap.where for gap in gaps} == {"2", "end to end"}
    assert all("cannot be differentiated twice" in gap.why for gap in gaps)


class Reentrant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(tanh_layers(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True)
        return x


def test_what_cannot_be_measured_is_said_with_its_reason() -> None:
    x = torch.randn(4, 8)
    plain = nn.Sequential(*tanh_layers(3, 8))
    whys = {
        "reentrant checkpointing": measured(Reentrant(), x),
        "no Lanczos steps": measured(plain, x, effort="quick", cheap=False),
        "only stage": measured(nn.Linear(8, 2), x),
    }
    for why, (_, trunk, gaps) in whys.items():
        assert trunk.top_singular_values == ()
        assert [why in gap.why for gap in gaps] == [True]


def test_standard_effort_looks_at_the_worst_stages_of_a_model_that_is_not_cheap() -> None:
    torch.manual_seed(0)
    layers = tanh_layers(14, 8)
    for i, scale in ((4, 3.0), (6, 0.2), (9, 0.1), (11, 4.0)):
        nn.init.normal_(layers[i][0].weight, std=scale / math.sqrt(8))  # type: ignore[index]
    net, x = nn.Sequential(*layers), torch.randn(4, 8)
    rows, trunk, gaps = measured(net, x, cheap=False)
    truths = stage_jacobians(in_float64(net), x)
    filled = [row.index for row in rows if row.top_singular_values]
    gains = [abs(math.log(row.backward_gain.value)) for row in rows]  # type: ignore[union-attr]
    assert filled == sorted(sorted(range(14), key=lambda i: -gains[i])[:2])
    assert set(filled) == {6, 9}
    assert all(holds(rows[i].top_singular_values, truths[i], 1e-5) for i in filled)
    assert trunk.top_singular_values == ()
    assert [(g.where, "2 of 14 stages" in g.why) for g in gaps] == [
        ("the other stages", True),
        ("end to end", False),
    ]
    shallow, _, _ = measured(nn.Sequential(*tanh_layers(2, 8)), x, cheap=False)
    assert [bool(row.top_singular_values) for row in shallow].count(True) == 1


class OnlyFloat32(nn.Module):
    """Refuses to run in another precision, as hand-written kernels do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*tanh_layers(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise ValueError("float32 only")
        return self.layers(x)


def test_a_model_that_does_not_run_in_float64_is_measured_as_it_is() -> None:
    torch.manual_seed(0)
    net, x = OnlyFloat32(), torch.randn(4, 8)
    rows, _, gaps = measured(net, x)
    truths = stage_jacobians(in_float64(net.layers), x)
    assert gaps == ()
    for row, jacobian in zip(rows, truths, strict=True):
        assert holds(row.top_singular_values, jacobian, 1e-5)


class BothEnds(nn.Module):
    """Reads an LSTM's outputs and its last state: taken apart, they are two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 5), nn.Linear(12, 2)
        self.rnn = nn.LSTM(5, 6, batch_first=True)

    def read(self, x: Tensor) -> Tensor:
        outputs, (hidden, _) = self.rnn(x)
        return torch.cat([outputs[:, 0], hidden[-1]], dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(self.enter(x)))


def test_an_lstm_read_at_both_ends_is_right() -> None:
    torch.manual_seed(0)
    net, x = BothEnds(), torch.randn(3, 4, 3)
    rows, trunk, gaps = measured(net, x)
    double = copy.deepcopy(net).double()
    truths = stage_jacobians([double.enter, double.read, double.head], x)
    assert gaps == ()
    for row, jacobian in zip(rows, truths, strict=True):
        assert holds(row.top_singular_values, jacobian)
    assert holds(trunk.top_singular_values, through_to_output(truths)[1])


class Stacked(nn.Module):
    """Two LSTMs, the first of which hands on its whole state beside its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(3, 5, batch_first=True)
        self.second = nn.LSTM(5, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def both(self, x: Tensor) -> Tensor:
        outputs, state = self.first(x)
        return self.second(outputs, state)[0]

    def read(self, h: Tensor) -> Tensor:
        return self.head(h[:, -1])

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.both(x))


def test_a_state_handed_on_beside_the_outputs_is_not_cut_off() -> None:
    torch.manual_seed(0)
    net, x = Stacked(), torch.randn(3, 4, 3)
    rows, trunk, gaps = measured(net, x)
    double = copy.deepcopy(net).double()
    truths = stage_jacobians([double.both, double.read], x)
    assert gaps == ()
    assert [row.modules for row in rows] == [("first", "second"), ("head",)]
    for row, jacobian in zip(rows, truths, strict=True):
        assert holds(row.top_singular_values, jacobian)
    # parallel paths join inside: no inlet, so the chain starts at the input
    assert rows[0].role == "interior"
    assert holds(trunk.top_singular_values, through_to_output(truths)[0])


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_a_path_past_a_stages_end_is_noticed(skip: float) -> None:
    x = torch.randn(3, requires_grad=True)
    hidden = 2 * x
    output = hidden.tanh() + x if skip else hidden.tanh()
    start, middle, end = (at_tensors([t]) for t in (x, hidden, output))
    chain = [StageMap(start, middle), StageMap(middle, end)]
    assert runs_past(chain, {edge.node for edge in start.edges}) == bool(skip)


def test_the_same_seed_gives_the_same_numbers_and_the_model_back() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3))
    x = torch.randn(5, 6)
    before = copy.deepcopy(net.state_dict())
    random = torch.get_rng_state()
    first, second = measured(net, x), measured(net, x)
    assert first == second
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32
    for name, value in net.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
