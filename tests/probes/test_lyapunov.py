"""Exponents and gates of layers and hand-written loops against Jacobians by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from gradaudit.linalg.lyapunov import burn_in
from gradaudit.probes.lyapunov import layer_dynamics
from gradaudit.probes.time_gates import unroll
from gradaudit.probes.time_loops import find_loops
from gradaudit.probes.time_packed import Call, given_sequences
from gradaudit.probes.time_sequences import rebuild
from gradaudit.probes.time_states import loop_exponents
from gradaudit.records import Estimate
from gradaudit.subject.opened import Batch
from tests.probes.test_through_time import (
    Float32Only,
    HandWritten,
    StepByStep,
    measure,
    only_row,
)
from tests.reference import lyapunov_spectrum, numerical_jacobian


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


LAYERS: dict[str, Callable[[], nn.RNNBase]] = {
    "tanh rnn": lambda: nn.RNN(3, 4),
    "relu rnn, no bias": lambda: nn.RNN(3, 4, nonlinearity="relu", bias=False),
    "lstm": lambda: nn.LSTM(3, 4),
    "lstm, no bias": lambda: nn.LSTM(3, 4, bias=False),
    "projected lstm": lambda: nn.LSTM(3, 5, proj_size=2),
    "gru": lambda: nn.GRU(3, 4),
    "gru, no bias": lambda: nn.GRU(3, 4, bias=False),
}


def one_step(layer: nn.RNNBase, x: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    """The state after one step on ``x``, as one vector, from the state before."""
    hidden = getattr(layer, "proj_size", 0) or layer.hidden_size

    def step(z: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(z)[None, None]
        lstm = isinstance(layer, nn.LSTM)
        given = (state[..., :hidden], state[..., hidden:]) if lstm else state
        with torch.no_grad():
            after = layer(x[None, None], tuple(map(torch.clone, given)) if lstm else given)[1]
        return torch.cat(after if lstm else (after,), dim=2).flatten().numpy()

    return step


def trajectory(layer: nn.RNNBase, x: Tensor, z: np.ndarray) -> Iterator[np.ndarray]:
    """The Jacobian of each step along one sequence."""
    for x_t in x:
        step = one_step(layer, x_t)
        yield numerical_jacobian(step, z)
        z = step(z)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_every_step_of_every_kind_of_layer(name: str) -> None:
    torch.manual_seed(0)
    layer = rebuild(LAYERS[name]())
    x = 2 * torch.randn(5, 2, 3)
    sizes = [getattr(layer, "proj_size", 0) or layer.hidden_size]
    sizes += [layer.hidden_size] if isinstance(layer, nn.LSTM) else []
    state = tuple(torch.randn(1, 2, size) for size in sizes)
    given = given_sequences(layer, Call(x, state), 4)
    (unrolled,) = unroll(layer, given.x, given.state)
    assert unrolled.size == sum(sizes)
    assert torch.allclose(unrolled.outputs, layer(given.x, _as_given(layer, given.state))[0])
    identity = torch.eye(unrolled.size, dtype=torch.float64).expand(2, -1, -1)
    for b in range(2):
        start = torch.cat([part[0, b] for part in given.state]).numpy()
        for t, truth in enumerate(trajectory(layer, given.x[:, b], start)):
            found = unrolled.push(t, identity)[b].numpy()
            assert found == pytest.approx(truth, abs=1e-8)


def _as_given(layer: nn.RNNBase, state: tuple[Tensor, ...]) -> object:
    return state if isinstance(layer, nn.LSTM) else state[0]


def values(estimates: tuple[Estimate, ...]) -> list[float]:
    return [estimate.value for estimate in estimates]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_exponents_of_a_layer(name: str) -> None:
    """All of them: their sum is the mean log determinant, each agrees with Gram-Schmidt."""
    torch.manual_seed(1)
    layer = LAYERS[name]()
    with torch.no_grad():
        if "relu" in name:  # units that are off would wipe a direction out
            layer.weight_hh_l0.copy_(torch.rand(4, 4) / 3)
            layer.weight_ih_l0.abs_()
    x = torch.rand(100, 1, 3) if "relu" in name else torch.randn(100, 1, 3)
    row = only_row(layer, x)
    twin = rebuild(layer)
    unit = 7 if "projected" in name else 8 if isinstance(layer, nn.LSTM) else 4
    jacobians = list(trajectory(twin, x[:, 0].double(), np.zeros(unit)))
    assert len(row.lyapunov) == unit
    kept = jacobians[burn_in(100) :]
    determinants = [np.linalg.slogdet(jacobian)[1] for jacobian in kept]
    assert sum(values(row.lyapunov)) == pytest.approx(np.mean(determinants), rel=1e-5)
    truth = sorted(lyapunov_spectrum(jacobians, burn_in(100)), reverse=True)
    assert values(row.lyapunov) == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_stack_has_the_exponents_of_its_layers(kind: type[nn.RNNBase]) -> None:
    """Each driven by the one below; of both directions, each in its own row."""
    torch.manual_seed(2)
    stack = kind(3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(60, 2, 3)
    rows, _ = measure(stack, x)
    lower, upper = kind(3, 4, bidirectional=True), kind(8, 4, bidirectional=True)
    lower.load_state_dict({k: v for k, v in stack.state_dict().items() if "_l0" in k})
    upper.load_state_dict(
        {k.replace("_l1", "_l0"): v for k, v in stack.state_dict().items() if "_l1" in k}
    )
    with torch.no_grad():
        between = lower(x)[0]
    apart = zip(measure(lower, x)[0], measure(upper, between)[0], strict=True)
    for row, (below, above) in zip(rows, apart, strict=True):
        both = sorted(values(below.lyapunov) + values(above.lyapunov), reverse=True)
        assert values(row.lyapunov) == pytest.approx(both[:8], abs=0.05)


def test_a_linear_recurrence_gives_the_log_of_its_eigenvalues() -> None:
    layer = nn.RNN(4, 4, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.eye(4))
        layer.weight_hh_l0.copy_(torch.diag(torch.tensor([0.9, 0.7, 0.5, 0.1])))
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    row = only_row(layer, torch.rand(120, 2, 4))
    assert values(row.lyapunov) == pytest.approx(
        [math.log(a) for a in (0.9, 0.7, 0.5, 0.1)], rel=1e-5
    )


def test_intervals_hold_the_exponent_of_a_driven_net() -> None:
    """This very net on fresh data, 100 times, against one run of 20,000 steps."""
    torch.manual_seed(3)
    layer = rebuild(nn.RNN(2, 6))
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2.5)
    generator = torch.Generator().manual_seed(4)

    def top(steps: int, n: int, effort: str) -> Estimate:
        x = torch.randn(steps, n, 2, generator=generator)
        given = given_sequences(layer, Call(x, None), n)
        return layer_dynamics(layer, given, effort, generator)["forward"].exponents[0]

    truth = top(4096, 40, "thorough")
    assert truth.low is not None
    assert truth.high is not None
    held, widths = 0, []
    for _ in range(100):
        found = top(120, 8, "standard")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth.value <= found.high
        widths.append(found.high - found.low)
    assert truth.high - truth.low < 0.1 * sorted(widths)[50]
    assert 92 <= held <= 99
    # no wider than averaging so many fewer numbers makes it, and Student's quantile for 16 blocks
    ideal = (truth.high - truth.low) * math.sqrt(40 * 3896 / (8 * 80))
    assert sorted(widths)[50] < 1.5 * ideal


# --- hand-written loops

CELLS: dict[str, tuple[type[nn.Module], type[nn.RNNBase]]] = {
    "rnn": (nn.RNNCell, nn.RNN),
    "lstm": (nn.LSTMCell, nn.LSTM),
    "gru": (nn.GRUCell, nn.GRU),
}


def followed(model: nn.Module, x: Tensor) -> dict[str, tuple[Estimate, ...]]:
    """All the exponents of every loop in ``model``, as thorough effort has them."""
    generator = torch.Generator().manual_seed(0)
    names = [name for name, module in model.named_modules() if name and [*module.parameters()]]
    batch = Batch((x,))
    loops = find_loops(model, batch, names, 2, generator)
    reached = {name: loop.reach.steps for name, loop in loops.items()}
    found = loop_exponents(model, batch, reached, "thorough", generator)
    assert not any(why for _, why in found.values())
    return {name: exponents for name, (exponents, _) in found.items()}


def as_layer(cell: nn.Module, kind: type[nn.RNNBase]) -> nn.RNNBase:
    layer = kind(3, 6)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    return layer


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_in_a_loop_is_the_layer_it_makes(name: str) -> None:
    torch.manual_seed(5)
    cell, kind = CELLS[name]
    model = HandWritten(cell(3, 6), 120)
    x = torch.randn(4, 120, 3)
    found = only_row(model, x)
    layer = as_layer(model.cell, kind)
    expected = only_row(layer, x.transpose(0, 1))
    assert len(found.lyapunov) == 2
    assert values(found.lyapunov) == pytest.approx(values(expected.lyapunov)[:2], abs=0.05)
    if name == "rnn":
        assert found.forget_gate is None
    else:
        assert found.forget_gate is not None
        assert expected.forget_gate is not None
        assert found.forget_gate.value == pytest.approx(expected.forget_gate.value)
        assert found.forget_gate.low == pytest.approx(expected.forget_gate.low)


def test_the_pulled_frame_is_exact() -> None:
    """All exponents of a loop add up to its mean log determinant, step by step from the end."""
    torch.manual_seed(6)
    model = HandWritten(nn.GRUCell(3, 6), 24)
    x = torch.randn(1, 24, 3)
    exponents = values(followed(model, x)["cell"])
    layer = rebuild(as_layer(model.cell, nn.GRU))
    jacobians = list(trajectory(layer, x[0].double(), np.zeros(6)))[1:]  # 23 steps between states
    edge = burn_in(23) // 2
    determinants = [np.linalg.slogdet(jacobian)[1] for jacobian in jacobians[edge : 23 - edge]]
    assert len(exponents) == 6
    assert sum(exponents) == pytest.approx(np.mean(determinants), rel=1e-5)


class Stacked(nn.Module):
    """Two cells in one loop; with ``feedback`` the upper's output goes back into the lower."""

    def __init__(self, *, feedback: bool) -> None:
        super().__init__()
        self.lower, self.upper, self.feedback = nn.GRUCell(3, 3), nn.GRUCell(3, 3), feedback

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.zeros(len(x), 3), torch.zeros(len(x), 3)
        for t in range(x.shape[1]):
            a = self.lower(x[:, t] + b if self.feedback else x[:, t], a)
            b = self.upper(a, b)
        return b


def stacked_jacobians(model: Stacked, x: Tensor) -> list[np.ndarray]:
    """Of the joint state (lower, upper), by finite differences."""
    lower, upper = nn.GRUCell(3, 3).double(), nn.GRUCell(3, 3).double()
    lower.load_state_dict(model.lower.state_dict())
    upper.load_state_dict(model.upper.state_dict())
    z, found = np.zeros(6), []
    for x_t in x.double():

        def step(z: np.ndarray, x_t: Tensor = x_t) -> np.ndarray:
            a, b = torch.from_numpy(z)[None].split(3, dim=1)
            with torch.no_grad():
                a = lower(x_t[None] + b if model.feedback else x_t[None], a)
                return torch.cat([a, upper(a, b)], dim=1)[0].numpy()

        found.append(numerical_jacobian(step, z))
        z = step(z)
    return found


@pytest.mark.parametrize("feedback", [False, True])
def test_two_cells_in_one_loop(feedback: bool) -> None:
    """Apart where the one only drives the other, one state where they feed each other."""
    torch.manual_seed(7)
    model = Stacked(feedback=feedback)
    x = torch.randn(1, 150, 3)
    found = followed(model, x)
    lower, upper = values(found["lower"]), values(found["upper"])
    truth = sorted(lyapunov_spectrum(stacked_jacobians(model, x[0]), 20), reverse=True)
    if feedback:
        assert lower == upper
        assert lower == pytest.approx(truth, abs=0.05)
    else:
        assert lower != pytest.approx(upper, abs=0.01)
        assert sorted(lower + upper, reverse=True) == pytest.approx(truth, abs=0.05)


def test_sequences_are_told_apart_wherever_the_batch_stands() -> None:
    torch.manual_seed(8)
    model = StepByStep()  # state [1, batch, hidden], output [batch, 1, hidden]
    x = torch.randn(5, 80, 3)
    found = followed(model, x)["decoder"]
    expected = only_row(model.decoder, x).lyapunov
    assert values(found)[:3] == pytest.approx(values(expected)[:3], abs=0.05)


class Residual(nn.Module):
    """The state is a sum that no cell returns."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x[:, 0]
        for t in range(1, x.shape[1]):
            h = h + torch.tanh(self.change(h)) * 0.1 + x[:, t]
        return self.change(h)


class Mixing(nn.Module):
    """Every sequence of the batch sees the others."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 3)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h - h.mean(dim=0))
        return h


class Opaque:
    def __init__(self, h: Tensor) -> None:
        self.h = h


class OpaqueCell(nn.RNNCell):
    def forward(self, x: Tensor, state: dict | None = None) -> dict:  # type: ignore[override]
        h = super().forward(x, None if state is None else state["h"][0])
        return {"h": [h], "extra": {1.0}}


class Keeper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = OpaqueCell(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        assert state is not None
        return state["h"][0]


class SelfKept(nn.Module):
    """The cell reads its state off itself; what it returns is not what it goes on with."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRUCell(3, 3)
        self.h = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.gru(x, self.h)
        return self.h


class SelfKeeper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = SelfKept()

    def forward(self, x: Tensor) -> Tensor:
        self.cell.h = x.new_zeros(len(x), 3)
        for t in range(x.shape[1]):
            y = self.cell(x[:, t])
        return y


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (SelfKeeper(), "keeps its state to itself"),
        (Residual(), "more than what its cell returns"),
        (Mixing(), "cannot be told apart"),
        (Keeper(), "returns a set"),
    ],
)
def test_a_state_that_cannot_be_followed_says_why(model: nn.Module, why: str) -> None:
    torch.manual_seed(9)
    rows, missing = measure(model, torch.randn(4, 20, 3))
    assert [row.lyapunov for row in rows] == [()]
    assert [item.what for item in missing] == ["Lyapunov exponents"]
    assert why in missing[0].why
    assert rows[0].growth_log10 is not None  # the profile needs no state


def test_a_loop_in_its_own_precision_has_exponents_too() -> None:
    torch.manual_seed(10)
    model = Float32Only()
    row = only_row(model, torch.randn(4, 60, 3))
    layer = nn.RNN(3, 6)
    layer.load_state_dict({f"{n}_l0": value for n, value in model.cell.state_dict().items()})
    assert row.lyapunov[0].value < 0


# --- lengths, efforts, gates


def test_quick_effort_leaves_them_out_and_says_so() -> None:
    for model in (nn.GRU(3, 6, batch_first=True), HandWritten(nn.GRUCell(3, 6), 20)):
        (row,), missing = measure(model, torch.randn(4, 20, 3), effort="quick")
        assert row.lyapunov == ()
        assert row.forget_gate is not None
        assert [(item.what, item.why) for item in missing] == [
            ("Lyapunov exponents", "left out at quick effort")
        ]


def test_few_steps_stand_for_themselves_and_one_short_sequence_has_no_interval() -> None:
    torch.manual_seed(11)
    layer = nn.LSTM(3, 4)
    several = only_row(layer, torch.randn(12, 4, 3)).lyapunov[0]
    assert several.unit == "natural log per step, over these 8 steps"
    assert several.low is not None
    alone = only_row(layer, torch.randn(12, 1, 3)).lyapunov[0]
    assert (alone.low, alone.high) == (None, None)
    long = only_row(layer, torch.randn(100, 4, 3)).lyapunov[0]
    assert long.unit == "natural log per step"


def test_a_unit_wide_and_two_steps_long() -> None:
    torch.manual_seed(12)
    row = only_row(nn.GRU(1, 1), torch.randn(2, 1, 1))
    assert len(row.lyapunov) == 1
    assert (row.lyapunov[0].low, row.lyapunov[0].high) == (None, None)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_the_mean_gate(kind: type[nn.RNNBase], gates: int) -> None:
    """Without weights on it the gate stands at the sigmoid of the sum of torch's two biases."""
    layer = kind(3, 5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0.chunk(gates)[2].normal_()
        layer.bias_ih_l0.chunk(gates)[1].fill_(1.5)
        layer.bias_hh_l0.chunk(gates)[1].fill_(0.5)
    row = only_row(layer, torch.randn(30, 3, 3))
    expected = torch.tensor(2.0).sigmoid().item()
    assert row.forget_gate is not None
    assert row.forget_gate.value == pytest.approx(expected)
    assert (row.forget_gate.low, row.forget_gate.high) == pytest.approx((expected, expected))
    # nothing but the gate carries the state on
    assert row.lyapunov[0].value == pytest.approx(math.log(expected), rel=0.02)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_the_mean_gate_by_hand(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(13)
    layer, x = kind(3, 5), torch.randn(9, 2, 3)
    gates, h, total = (4 if kind is nn.LSTM else 3), torch.zeros(2, 5), 0.0
    state = None
    layer.requires_grad_(False)
    for x_t in x:
        pre = x_t @ layer.weight_ih_l0.T + layer.bias_ih_l0 + layer.bias_hh_l0
        pre = pre + h @ layer.weight_hh_l0.T
        total += float(pre.chunk(gates, dim=1)[1].sigmoid().mean())
        output, state = layer(x_t[None], state)
        h = output[0]
    gate = only_row(layer, x).forget_gate
    assert gate is not None
    assert gate.value == pytest.approx(total / 9, rel=1e-5)
    assert gate.low is not None
    assert 0 <= gate.low < gate.value


class State(NamedTuple):
    h: Tensor
    c: Tensor


class NamedCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(3, 6)

    def forward(self, x: Tensor, state: State | None) -> State:
        return State(*self.lstm(x, None if state is None else tuple(state)))


class LayerSteps(nn.Module):
    """A layer of torch's as a decoder calls it, one step at a time."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.cell = layer

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            y, state = self.cell(x[:, t : t + 1], state)
        return y


@pytest.mark.parametrize("how", ["wrapped", "lstm", "gru"])
def test_the_gate_of_what_is_stepped_or_wrapped_is_the_layers(how: str) -> None:
    torch.manual_seed(16)
    layer: nn.RNNBase
    layer = nn.GRU(3, 6, batch_first=True) if how == "gru" else nn.LSTM(3, 6, batch_first=True)
    model: nn.Module = LayerSteps(layer)
    if how == "wrapped":
        model = HandWritten(NamedCell(), 20)
        inner = {name.removesuffix("_l0"): w for name, w in layer.state_dict().items()}
        model.cell.lstm.load_state_dict(inner)
    x = torch.randn(4, 20, 3)
    gate, expected = only_row(model, x).forget_gate, only_row(layer, x).forget_gate
    assert gate is not None
    assert expected is not None
    assert gate.value == pytest.approx(expected.value, rel=1e-9)
    assert gate.low == pytest.approx(expected.low)


def test_gates_that_cannot_be_read_are_said() -> None:
    torch.manual_seed(17)
    rows, missing = measure(
        LayerSteps(nn.LSTM(3, 4, num_layers=2, batch_first=True)), torch.randn(4, 20, 3)
    )
    assert [row.forget_gate for row in rows] == [None]
    assert [(gap.what, gap.where) for gap in missing] == [("forget gate", "cell")]


class Packed(nn.Module):
    def __init__(self, lengths: tuple[int, ...]) -> None:
        super().__init__()
        self.lstm, self.lengths = nn.LSTM(3, 4, bidirectional=True), lengths

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(pack_padded_sequence(x, self.lengths, enforce_sorted=False))[0].data


def test_packed_sequences_are_followed_to_a_common_length() -> None:
    torch.manual_seed(14)
    model, x = Packed((30, 64, 50, 3, 2)), torch.randn(64, 5, 3)
    rows, missing = measure(model, x)
    assert missing == ()
    # two are at least half as long as the longest: both are cut to the shorter of them
    forward = only_row(nn.LSTM(3, 4), torch.randn(4, 1, 3))
    assert len(forward.lyapunov) == 8
    plain = nn.LSTM(3, 4, bidirectional=True)
    plain.load_state_dict(model.lstm.state_dict())
    expected, _ = measure(plain, x[:50, 1:3])
    for row, truth in zip(rows, expected, strict=True):
        assert row.packed
        assert row.forget_gate == truth.forget_gate
        assert values(row.lyapunov) == pytest.approx(values(truth.lyapunov), abs=0.05)


# --- cases from the field


def test_relu_rnn_of_norm_1_05_over_150_steps() -> None:
    """Grows by 1.05 a step: 1,500 in norm over 150 steps, whatever the input."""
    layer = nn.RNN(1, 32, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_ih_l0.abs_()
        layer.weight_hh_l0.copy_(1.05 * torch.eye(32))
        layer.bias_ih_l0.fill_(0.1)
        layer.bias_hh_l0.zero_()
    row = only_row(layer, torch.rand(150, 4, 1))
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(2 * 149 * math.log10(1.05), rel=1e-5)
    assert values(row.lyapunov) == pytest.approx([math.log(1.05)] * 8, rel=1e-5)
    by_length = [growth.value for _, growth in row.growth_by_length]
    assert by_length == pytest.approx([2 * t * math.log10(1.05) for t in (36, 74, 149)], rel=1e-5)


def test_a_forget_bias_opens_an_lstm_over_300_steps() -> None:
    torch.manual_seed(15)
    layer, x = nn.LSTM(1, 32), torch.randn(300, 4, 1)
    closed = only_row(layer, x)
    with torch.no_grad():
        layer.bias_ih_l0.chunk(4)[1].fill_(3.0)
        layer.bias_hh_l0.chunk(4)[1].zero_()
    opened = only_row(layer, x)
    assert closed.growth_log10 is not None
    assert opened.growth_log10 is not None
    assert closed.growth_log10.value < -90
    assert opened.growth_log10.value > -8
    assert closed.forget_gate is not None
    assert opened.forget_gate is not None
    assert closed.forget_gate.value == pytest.approx(0.5, abs=0.03)
    assert opened.forget_gate.value == pytest.approx(0.95, abs=0.01)
    assert closed.lyapunov[0].value < -0.3 < -0.05 < opened.lyapunov[0].value
    assert closed.horizon is not None
    assert closed.horizon < 15
