"""Profiles over time against float64 Jacobians taken one step at a time, and closed forms."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence

from gradaudit.probes.through_time import measure_through_time
from gradaudit.records import NotMeasured, Recipe, RecurrentRow, SampleRow, SubjectRow
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(model: nn.Module, *inputs: object) -> Opened:
    return Opened(
        model=model,
        weights={},
        batches=(Batch(inputs),),
        objective=None,
        recipe=Recipe(),
        make_optimizer=None,
        row=SubjectRow("test", "code", "", 0, 0, 0),
        sample=SampleRow("given", "none", 1, None, "test"),
    )


def measure(
    model: nn.Module, *inputs: object, seed: int = 0, effort: str = "standard"
) -> tuple[tuple[RecurrentRow, ...], tuple[NotMeasured, ...]]:
    settings = Settings(seed=seed, effort=effort)  # type: ignore[arg-type]
    with borrowed(model):
        return measure_through_time(opened(model, *inputs), settings)


def only_row(model: nn.Module, *inputs: object, **how: object) -> RecurrentRow:
    rows, missing = measure(model, *inputs, **how)  # type: ignore[arg-type]
    assert missing == ()
    assert len(rows) == 1
    return rows[0]


def brute_force(
    layer: nn.RNNBase, x: Tensor, state: object = None, outputs: int = 0
) -> list[float]:
    """``||d last output / d input at t||_F^2`` summed over sequences, by full float64 Jacobians.

    ``x`` is ``[time, batch, features]``, ``layer`` float64 and time first.
    """
    outputs = outputs or layer.hidden_size
    total = torch.zeros(len(x), dtype=torch.float64)
    for b in range(x.shape[1]):
        part = None
        if isinstance(state, tuple):
            part = tuple(s[:, b : b + 1].contiguous() for s in state)
        elif isinstance(state, Tensor):
            part = state[:, b : b + 1].contiguous()

        def last(one: Tensor, part: object = part) -> Tensor:
            return layer(one[:, None], part)[0][-1, 0, :outputs]

        jacobian = torch.autograd.functional.jacobian(last, x[:, b].contiguous())
        total += jacobian.square().sum(dim=(0, 2))
    return total.tolist()


LAYERS = {
    "rnn": lambda **o: nn.RNN(3, 5, **o),
    "relu rnn, two layers": lambda **o: nn.RNN(3, 5, num_layers=2, nonlinearity="relu", **o),
    "lstm": lambda **o: nn.LSTM(3, 5, **o),
    "projected lstm": lambda **o: nn.LSTM(3, 7, proj_size=5, **o),
    "gru, three layers, no bias": lambda **o: nn.GRU(3, 5, num_layers=3, bias=False, **o),
}


# torch says once per process that oneDNN has no projections
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_small_layers_are_exact(name: str, batch_first: bool) -> None:
    """Five outputs are no more than the probes: the unit vectors give the Jacobian itself."""
    torch.manual_seed(0)
    layer = LAYERS[name](batch_first=batch_first)
    x = torch.randn(70, 2, 3)  # 70 steps: more than two spans
    row = only_row(layer, x.transpose(0, 1) if batch_first else x)
    truth = LAYERS[name]().double()
    truth.load_state_dict(layer.state_dict())
    expected = brute_force(truth, x.double(), outputs=5)
    measured = [rms**2 * x[0].numel() for _, rms in row.profile]
    assert measured == pytest.approx(expected, rel=1e-9, abs=0)
    assert [t for t, _ in row.profile] == list(range(70))
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(math.log10(expected[0] / expected[-1]))
    assert row.growth_log10.low == row.growth_log10.high == row.growth_log10.value
    assert row.growth_per_step is not None
    assert row.growth_per_step.value**69 == pytest.approx(expected[0] / expected[-1])


def far_end_first(row: RecurrentRow) -> list[float]:
    """Mean squares from the step farthest from the output to the nearest."""
    profile = row.profile if row.direction == "forward" else row.profile[::-1]
    return [rms**2 for _, rms in profile]


BOTH_WAYS = {
    "rnn": lambda **o: nn.RNN(3, 5, bidirectional=True, **o),
    "lstm, two layers": lambda **o: nn.LSTM(3, 5, num_layers=2, bidirectional=True, **o),
    "projected lstm": lambda **o: nn.LSTM(3, 7, proj_size=5, bidirectional=True, **o),
    "gru": lambda **o: nn.GRU(3, 5, bidirectional=True, **o),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_both_halves_of_a_bidirectional_layer(name: str) -> None:
    """The backward half reaches from the first step on to the last."""
    torch.manual_seed(0)
    layer = BOTH_WAYS[name]()
    x = torch.randn(50, 4, 3)
    (forward, backward), missing = measure(layer, x)
    assert missing == ()
    assert (forward.direction, backward.direction) == ("forward", "backward")
    truth = BOTH_WAYS[name]().double()
    truth.load_state_dict(layer.state_dict())
    # two sequences are measured, to pay for two directions
    pair = x[:, :2].double()
    expected = brute_force(truth, pair, outputs=5)
    assert far_end_first(forward) == pytest.approx([e / 6 for e in expected], rel=1e-9, abs=0)
    squares = [0.0] * 50
    for b in range(2):

        def first(sequence: Tensor) -> Tensor:
            return truth(sequence[:, None])[0][0, 0, 5:]

        jacobian = torch.autograd.functional.jacobian(first, pair[:, b].contiguous())
        found = jacobian.square().sum(dim=(0, 2)).tolist()
        squares = [total + square for total, square in zip(squares, found, strict=True)]
    nearest_last = [square / 6 for square in reversed(squares)]
    assert far_end_first(backward) == pytest.approx(nearest_last, rel=1e-9, abs=0)
    assert [t for t, _ in backward.profile] == list(range(50))
    assert backward.growth_log10 is not None
    assert backward.growth_log10.value == pytest.approx(math.log10(squares[-1] / squares[0]))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_packed_sequences_are_measured_up_to_their_own_length(
    kind: type[nn.RNNBase], batch_first: bool
) -> None:
    """By lag, the mean over the sequences that reach so far; the growth is the longest's."""
    torch.manual_seed(1)
    layer = kind(3, 5, num_layers=2, batch_first=batch_first)
    lengths = (20, 40, 33, 40, 7)  # the four longest are measured
    x, h = torch.randn(40, 5, 3), torch.randn(2, 5, 5)
    state = (h, 2 * h) if kind is nn.LSTM else h
    model = Wrapped(layer, "packed", lengths)
    row = only_row(model, x.transpose(0, 1) if batch_first else x, state)
    assert (row.packed, row.steps) == (True, 40)
    truth = kind(3, 5, num_layers=2).double()
    truth.load_state_dict(layer.state_dict())
    by_lag: list[list[float]] = [[] for _ in range(40)]
    longest = [0.0, 0.0]
    for b in range(4):
        part = h[:, b : b + 1].double()
        start = (part, 2 * part) if kind is nn.LSTM else part
        squares = brute_force(truth, x[: lengths[b], b : b + 1].double(), start)
        for lag, square in enumerate(reversed(squares)):
            by_lag[lag].append(square / 3)
        if lengths[b] == 40:
            longest[0] += squares[0]
            longest[1] += squares[-1]
    expected = [sum(squares) / len(squares) for squares in reversed(by_lag)]
    assert far_end_first(row) == pytest.approx(expected, rel=1e-9, abs=0)
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(math.log10(longest[0] / longest[1]))


def test_packed_sequences_of_one_length_are_like_a_padded_tensor() -> None:
    torch.manual_seed(2)
    layer = nn.GRU(3, 40)
    x = torch.randn(15, 3, 3)
    packed = only_row(Wrapped(layer, "packed", (15, 15, 15)), x)
    assert packed.packed
    assert packed.profile == only_row(layer, x).profile


def test_growth_by_length_is_the_profile_read_nearer() -> None:
    torch.manual_seed(3)
    row = only_row(nn.LSTM(3, 5), torch.randn(40, 2, 3))
    assert [length for length, _ in row.growth_by_length] == [10, 20, 40]
    assert row.growth_by_length[-1][1] == row.growth_log10
    rms = dict(row.profile)
    for length, growth in row.growth_by_length:
        assert growth.value == pytest.approx(2 * math.log10(rms[40 - length] / rms[39]))
    short = only_row(nn.LSTM(3, 5), torch.randn(3, 2, 3))
    assert [length for length, _ in short.growth_by_length] == [3]


@pytest.mark.parametrize("scale", [0.5, 0.95])
def test_a_norm_below_one_suffices_to_vanish_under_tanh(scale: float) -> None:
    """Pascanu et al. 2013, proposition 1: sigma_1 < 1 / gamma, with gamma = 1 for tanh."""
    torch.manual_seed(4)
    layer = nn.RNN(4, 16)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(scale / torch.linalg.matrix_norm(layer.weight_hh_l0, 2))
    row = only_row(layer, torch.randn(60, 4, 4))
    assert row.growth_log10 is not None
    assert row.growth_log10.high is not None
    assert row.growth_log10.high < 2 * 59 * math.log10(scale)
    assert row.lyapunov[0].high is not None
    assert row.lyapunov[0].high < math.log(scale)


def test_a_norm_above_one_is_only_necessary_to_explode() -> None:
    torch.manual_seed(5)
    layer = nn.RNN(4, 16)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(3.0 / torch.linalg.matrix_norm(layer.weight_hh_l0, 2))
    row = only_row(layer, 5 * torch.randn(60, 4, 4))  # saturated
    assert row.growth_log10 is not None
    assert row.growth_log10.value < -8


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_initial_state_is_used(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(1)
    layer = kind(2, 4)
    x, h = torch.randn(6, 2, 2), 3 * torch.randn(1, 2, 4)
    state = (h, 2 * torch.randn(1, 2, 4)) if kind is nn.LSTM else h
    row = only_row(layer, x, state)
    truth = kind(2, 4).double()
    truth.load_state_dict(layer.state_dict())
    doubled = tuple(s.double() for s in state) if isinstance(state, tuple) else state.double()
    measured = [rms**2 * 4 for _, rms in row.profile]
    assert measured == pytest.approx(brute_force(truth, x.double(), doubled), rel=1e-9)
    without = [rms**2 * 4 for _, rms in only_row(layer, x).profile]
    assert measured != pytest.approx(without, rel=1e-3)


def test_unbatched_input_and_state() -> None:
    torch.manual_seed(2)
    layer = nn.GRU(2, 4)
    x, h = torch.randn(9, 2), torch.randn(1, 4)
    row = only_row(layer, x, h)
    assert row.profile == only_row(layer, x[:, None], h[:, None]).profile


def linear_rnn(weight: Tensor) -> nn.RNN:
    """An RNN that is linear: ReLU on positive states, identity input weights."""
    n = len(weight)
    layer = nn.RNN(n, n, nonlinearity="relu", bias=True)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(weight)
        layer.weight_ih_l0.copy_(torch.eye(n))
        layer.bias_hh_l0.zero_()
        layer.bias_ih_l0.fill_(0.0)
    return layer


@pytest.mark.parametrize("a", [0.5, 1.0, 1.05])
def test_scaled_identity_gives_powers(a: float) -> None:
    layer = linear_rnn(a * torch.eye(8))
    row = only_row(layer, torch.rand(50, 2, 8))
    a = float(torch.tensor(a))  # as float32 holds it
    assert [rms for _, rms in row.profile] == pytest.approx([a ** (49 - t) for t in range(50)])
    assert row.growth_per_step is not None
    assert row.growth_per_step.value == pytest.approx(a**2)
    assert row.spectral_radius == pytest.approx(a)
    # 0.5^7 is the first power of two below 1%
    assert row.horizon == (7 if a == 0.5 else None)


def test_orthogonal_recurrent_weights_give_a_flat_profile() -> None:
    """A permutation is orthogonal and keeps states positive, so that ReLU is the identity."""
    layer = linear_rnn(torch.eye(40)[torch.randperm(40)])
    row = only_row(layer, torch.rand(60, 1, 40))
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(0.0, abs=1e-9)  # J u is u permuted: no noise
    assert row.horizon is None
    assert row.spectral_radius == pytest.approx(1.0, rel=1e-5)


def test_lstm_over_300_steps_where_float32_gives_zero() -> None:
    torch.manual_seed(3)
    layer = nn.LSTM(4, 12)
    x = torch.randn(300, 1, 4)
    single = x.clone().requires_grad_()
    layer(single)[0][-1].sum().backward()
    assert single.grad is not None
    assert float(single.grad[0].abs().max()) == 0.0
    row = only_row(layer, x)
    truth = nn.LSTM(4, 12).double()
    truth.load_state_dict(layer.state_dict())
    expected = brute_force(truth, x.double())
    assert [rms**2 * 4 for _, rms in row.profile] == pytest.approx(expected, rel=1e-6)
    assert row.growth_log10 is not None
    assert row.growth_log10.value < -70


def test_beyond_the_range_of_float64() -> None:
    """0.1 per step over 400 steps: 1e-399 is no float, yet the growth is known."""
    row = only_row(linear_rnn(0.1 * torch.eye(4)), torch.rand(401, 1, 4))
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(800 * math.log10(torch.tensor(0.1).item()))
    assert row.profile[0] == (0, 0.0)
    rows, missing = measure(linear_rnn(8.0 * torch.eye(4)), 1e-30 * torch.rand(41, 1, 4))
    assert missing == ()
    assert rows[0].growth_log10 is not None
    assert rows[0].growth_log10.value == pytest.approx(80 * math.log10(8))


def test_interval_covers_the_true_growth() -> None:
    """Over 100 seeds the 95% interval holds this very layer's growth 92 to 99 times."""
    torch.manual_seed(4)
    layer = nn.RNN(6, 40)
    x = torch.randn(12, 4, 6)
    truth = nn.RNN(6, 40).double()
    truth.load_state_dict(layer.state_dict())
    squares = brute_force(truth, x.double())
    expected = math.log10(squares[0] / squares[-1])
    held = 0
    widths = []
    for seed in range(100):
        estimate = only_row(layer, x, seed=seed).growth_log10
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= expected <= estimate.high
        widths.append(estimate.high - estimate.low)
    assert 92 <= held <= 99
    assert sorted(widths)[50] < 0.4


class HandWritten(nn.Module):
    """A cell in a loop, in either style; ``steps`` states kept for the reference."""

    def __init__(self, cell: nn.Module, steps: int = 12) -> None:
        super().__init__()
        self.cell, self.steps = cell, steps
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(self.steps):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@dataclass
class Memory:
    h: Tensor
    c: Tensor


class InContainer(nn.Module):
    """An LSTM cell whose h depends on its c, both in a container of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.gates = kind, nn.Linear(9, 24)

    def forward(self, x: Tensor, state: Any) -> Any:
        if state is None:
            h, c = x.new_zeros(len(x), 6), x.new_zeros(len(x), 6)
        elif self.kind == "tuple":
            h, c = state
        elif self.kind == "dataclass":
            h, c = state.h, state.c
        else:
            h, c = state["h"], state["c"]
        i, f, g, o = self.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = 3 * o.sigmoid() * c.tanh()
        if self.kind == "tuple":
            return h, c
        return Memory(h, c) if self.kind == "dataclass" else OrderedDict(h=h, c=c)


class Contained(HandWritten):
    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(self.steps):
            state = self.cell(x[:, t], state)
        h = state[0] if isinstance(state, tuple) else None
        h = state.h if isinstance(state, Memory) else state["h"] if h is None else h
        return self.head(h)


@pytest.mark.parametrize("kind", ["dataclass", "ordered dict"])
def test_a_state_in_a_container_is_measured_like_one_in_a_tuple(kind: str) -> None:
    rows = []
    for each in ("tuple", kind):
        torch.manual_seed(0)
        rows.append(only_row(Contained(InContainer(each)), torch.randn(4, 12, 3)))
    assert rows[1].profile == rows[0].profile
    assert rows[1].growth_log10 == rows[0].growth_log10
    assert rows[1].lyapunov == rows[0].lyapunov


class OwnCell(nn.Module):
    """Elman's cell with a submodule that is called as often as the cell itself."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(9, 6)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        h = torch.zeros(len(x), 6) if h is None else h
        return torch.tanh(self.both(torch.cat([x, h], dim=1)))


CELLS = {
    "RNNCell": lambda: nn.RNNCell(3, 6),
    "LSTMCell": lambda: nn.LSTMCell(3, 6),
    "GRUCell": lambda: nn.GRUCell(3, 6),
    "OwnCell": OwnCell,
}


def state_jacobians(cell: nn.Module, x: Tensor) -> list[float]:
    """``||d last state / d state after step t||_F^2`` by chaining float64 one-step Jacobians."""
    joined = isinstance(cell, nn.LSTMCell)
    width = 12 if joined else 6
    total = [0.0] * x.shape[1]
    for sample in x:

        def step(z: Tensor, x_t: Tensor) -> Tensor:
            state = (z[None, :6], z[None, 6:]) if joined else z[None]
            new = cell(x_t[None], state)
            return torch.cat(new, dim=1)[0] if joined else new[0]

        z = torch.zeros(width, dtype=torch.float64)
        factors = []
        for x_t in sample:
            factors.append(torch.autograd.functional.jacobian(lambda a, b=x_t: step(a, b), z))
            z = step(z, x_t).detach()
        chained = torch.eye(width, dtype=torch.float64)
        for t in reversed(range(len(factors))):
            total[t] += float(chained.square().sum())
            chained = chained @ factors[t]
    return total


@pytest.mark.parametrize("name", CELLS)
def test_cells_in_a_loop(name: str) -> None:
    torch.manual_seed(5)
    model = HandWritten(CELLS[name]())
    x = torch.randn(8, 12, 3)
    row = only_row(model, x, effort="thorough")
    assert (row.module, row.type, row.steps) == ("cell", name, 12)
    truth = CELLS[name]().double()
    truth.load_state_dict(model.cell.state_dict())
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        squares = state_jacobians(truth, x.double())
    finally:
        torch.set_default_dtype(previous)
    entries = 8 * (12 if name == "LSTMCell" else 6)
    expected = [math.sqrt(square / entries) for square in squares]
    assert [rms for _, rms in row.profile] == pytest.approx(expected, rel=0.1)
    growth = math.log10(squares[0] / squares[-1])
    assert row.growth_log10 is not None
    assert row.growth_log10.low is not None
    assert row.growth_log10.high is not None
    margin = row.growth_log10.high - row.growth_log10.low
    assert abs(row.growth_log10.value - growth) < margin
    assert margin < 0.3
    assert (row.spectral_radius is not None) == (name == "RNNCell")


def test_the_interval_holds_the_jacobian_of_the_joint_state() -> None:
    """An LSTM's h depends on its c: what flows through it belongs to h alone."""
    torch.manual_seed(0)
    x, held, errors = torch.randn(4, 12, 3), 0, []
    for seed in range(10, 20):
        torch.manual_seed(seed)
        cell = nn.LSTMCell(3, 6)
        with torch.no_grad():
            cell.bias_ih[6:12] += 2
            cell.weight_hh *= 1.5
        row = only_row(HandWritten(cell), x, effort="thorough", seed=seed)
        squares = state_jacobians(cell.double(), x.double())
        truth, found = math.log10(squares[0] / squares[-1]), row.growth_log10
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
        errors.append(found.value - truth)
    assert held >= 9
    assert abs(sum(errors) / 10) < 0.02


def test_long_loop_is_measured_in_float64() -> None:
    """0.3 per step over 100 steps is 1e-52: zero in float32, and it is not."""
    cell = nn.RNNCell(3, 6, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_hh.copy_(0.3 * torch.eye(6))
        cell.bias_hh.fill_(10.0)  # keeps every unit on
    row = only_row(HandWritten(cell, 101), torch.rand(2, 101, 3))
    assert row.growth_log10 is not None
    assert row.growth_log10.value == pytest.approx(200 * math.log10(0.3), abs=1e-3)
    assert row.profile[0][1] == pytest.approx(0.3**100, rel=0.3)


class Float32Only(nn.Module):
    """Casts its state itself, so that it cannot be run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 6, dtype=torch.float32)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


def test_a_model_that_insists_on_float32_is_measured_in_float32() -> None:
    torch.manual_seed(6)
    row = only_row(Float32Only(), torch.randn(4, 8, 3))
    assert row.growth_log10 is not None
    assert -8 < row.growth_log10.value < 0


class SharedInParallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.shared(x[:, i]) for i in range(6)]
        y = torch.stack(parts).sum(dim=0)
        for _ in range(5):
            y = self.act(self.norm(y))
        return y


def test_sharing_is_not_recurrence() -> None:
    assert measure(SharedInParallel(), torch.randn(3, 6, 4)) == ((), ())


class StepByStep(nn.Module):
    """Torch's layer called with one step at a time, as a decoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.GRU(3, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            y, state = self.decoder(x[:, t : t + 1], state)
        return y


def test_layer_called_one_step_at_a_time() -> None:
    torch.manual_seed(7)
    row = only_row(StepByStep(), torch.randn(4, 10, 3))
    assert (row.module, row.steps) == ("decoder", 10)
    assert row.growth_log10 is not None
    assert row.growth_log10.value < -1


class Wrapped(nn.Module):
    def __init__(self, layer: nn.RNNBase, how: str, lengths: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.layer, self.how, self.lengths = layer, how, lengths

    def forward(self, x: Tensor, state: Any = None) -> Tensor:
        if self.how == "packed":
            given = pack_padded_sequence(
                x, self.lengths, enforce_sorted=False, batch_first=self.layer.batch_first
            )
            return self.layer(given, state)[0].data
        if self.how == "twice":
            return self.layer(input=x)[0][-1] + self.layer(x[:3], hx=None)[0][-1]
        return self.layer(x)[0]


class Doubling(nn.GRU):
    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, state = super().forward(x, hx)
        return 2 * output, state


@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (Wrapped(nn.LSTM(2, 3), "packed", (1, 1)), torch.zeros(4, 2, 2), "one step"),
        (Doubling(2, 3), torch.zeros(4, 2, 2), "forward of its own"),
        (nn.GRU(2, 3), torch.zeros(1, 2, 2), "one step"),
        (nn.GRU(2, 3), torch.full((4, 2, 2), torch.inf), "not finite"),
    ],
)
def test_what_cannot_be_measured_says_why(model: nn.Module, x: Tensor, why: str) -> None:
    rows, missing = measure(model, x)
    assert rows == ()
    assert [item.what for item in missing] == ["gradient through time"]
    assert why in missing[0].why


def test_two_calls_measure_the_longer() -> None:
    rows, missing = measure(Wrapped(nn.GRU(2, 3), "twice"), torch.randn(8, 2, 2))
    assert [row.steps for row in rows] == [8]
    assert "called 2 times" in missing[0].why


def test_dead_and_cut_off_layers() -> None:
    dead = linear_rnn(torch.eye(4))
    with torch.no_grad():
        dead.bias_ih_l0.fill_(-9.0)
    rows, missing = measure(dead, torch.rand(6, 2, 4))
    assert rows == ()
    assert "zero" in missing[0].why
    # no recurrent weights at all: the last step sees its own input alone
    (row,), missing = measure(linear_rnn(torch.zeros(4, 4)), torch.rand(6, 2, 4))
    assert [(item.what, "wiped out" in item.why) for item in missing] == [
        ("Lyapunov exponents", True)
    ]
    assert row.lyapunov == ()
    assert [length for length, _ in row.growth_by_length] == [3, 6]
    assert all(growth.high == -600.0 for _, growth in row.growth_by_length)
    assert row.growth_log10 is not None
    assert (row.growth_log10.low, row.growth_log10.high) == (None, -600.0)
    assert row.horizon == 1


def test_parametrized_half_precision_and_dropout_layers() -> None:
    torch.manual_seed(8)
    plain = nn.RNN(3, 5, num_layers=2, dropout=0.5)
    x = torch.randn(9, 2, 3)
    profile = only_row(plain, x).profile
    normed = parametrizations.weight_norm(plain, "weight_hh_l0")  # same values, refuses deepcopy
    again = only_row(normed, x).profile
    assert [rms for _, rms in again] == pytest.approx([rms for _, rms in profile], rel=1e-5)
    half = nn.GRU(3, 5).to(torch.bfloat16)
    assert only_row(half, x.to(torch.bfloat16)).steps == 9


def test_the_model_comes_back_and_the_answer_repeats() -> None:
    torch.manual_seed(9)
    model = HandWritten(nn.LSTMCell(3, 6))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    x = torch.randn(4, 12, 3)
    state = torch.get_rng_state()
    first, second = measure(model, x), measure(model, x)
    assert first == second
    assert first != measure(model, x, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert dtype == torch.get_default_dtype()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_hooks_are_removed_when_forward_raises() -> None:
    model = nn.LSTM(3, 5)
    with pytest.raises(RuntimeError, match="must be equal to input_size"):
        measure_through_time(opened(model, torch.randn(4, 2, 7)), Settings())
    assert not model._forward_pre_hooks


def test_weights_only_and_models_without_recurrence_have_no_rows() -> None:
    assert measure(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(2, 3)) == ((), ())


class Twice(nn.Module):
    """A cell under two names, and a head whose weight is the encoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.cell = self.again = nn.RNNCell(4, 4)
        self.head.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x[0])
        for i, step in enumerate(x):
            state = (self.cell if i % 2 else self.again)(self.encoder(step), state)
        return self.head(state)


def test_a_module_under_two_names_keeps_its_weights() -> None:
    """Also before the loan ends: the next probe runs the model as it is."""
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(6, 2, 4)
    before, said = dict(model.named_parameters()), model(x)
    rows, _ = measure_through_time(opened(model, x), Settings())
    assert [row.module for row in rows] == ["cell"]
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert torch.equal(model(x), said)
