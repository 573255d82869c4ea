"""Effective rank and sample correlation against loops and numpy's eigenvalues in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.gradients import measure_real_loss
from gradaudit.probes.representation import CALLS, ENTRIES, SAMPLES, measure_rank
from gradaudit.records import ModuleRow, NotMeasured
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests import reference
from tests.probes.lossy import Loss, opened

SUM = Loss(lambda output, _: output.double().square().mean())
QUICK = Settings(effort="quick")


def measured(
    model: nn.Module, x: Tensor, target: Tensor | None = None
) -> tuple[dict[tuple[str, int], ModuleRow], tuple[NotMeasured, ...]]:
    with borrowed(model, training=True):
        found = measure_real_loss(opened(model, [(x, target)], SUM), QUICK)
    gaps = tuple(n for n in found.not_measured if "rank" in n.what)
    return {(r.module, r.call): r for r in found.modules}, gaps


def gaussian(n: int, d: int, *, mean: float = 0.0, decay: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, d, generator=generator) * decay ** torch.arange(d)


CASES = {
    "white": gaussian(20, 50),
    "more samples than units": gaussian(40, 3),
    "decaying": gaussian(16, 30, decay=0.7),
    "on a mean": gaussian(16, 30, mean=5.0),
    "behind a relu": gaussian(24, 64).relu(),
    "two clusters": torch.cat([gaussian(8, 5, mean=9.0), gaussian(8, 5, mean=-9.0, seed=1)]),
    "on a line": torch.linspace(-1, 2, 12)[:, None] * torch.ones(12, 6),
    "nearly the same": 1.0 + 1e-4 * gaussian(10, 40),
    "huge": 1e30 * gaussian(10, 7),
    "tiny": 1e-30 * gaussian(10, 7),
    "positions": gaussian(10, 60).view(10, 5, 3, 4),
    "two samples": gaussian(2, 9),
    "half precision": gaussian(12, 10).to(torch.bfloat16),
    "float64": gaussian(12, 10).double(),
}


@pytest.mark.parametrize("name", CASES)
def test_rank_and_correlation_are_those_of_float64(name: str) -> None:
    outputs = CASES[name]
    truth = outputs.double().flatten(1).numpy()
    truth = truth / np.abs(truth).max()
    found = measure_rank(outputs)
    assert found.effective_rank == pytest.approx(reference.effective_rank(truth), rel=2e-3)
    assert found.correlation == pytest.approx(reference.mean_cosine(truth), abs=2e-6)
    assert found.limit == min(len(outputs) - 1, truth.shape[1])
    assert found.effective_rank <= found.limit * (1 + 1e-6)


def test_known_values() -> None:
    spread = torch.eye(6)  # six corners of a simplex: all five directions alike
    assert measure_rank(spread).effective_rank == pytest.approx(5.0, rel=1e-6)
    assert measure_rank(spread).correlation == pytest.approx(0.0, abs=1e-7)
    line = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 6.0], [-3.0, -6.0]])
    assert measure_rank(line).effective_rank == pytest.approx(1.0)
    assert measure_rank(line).correlation == pytest.approx(-1 / 3)


def test_degenerate_outputs_have_exact_values_or_none() -> None:
    same = measure_rank(torch.full((8, 5), 0.3))
    assert (same.effective_rank, same.correlation, same.limit) == (0.0, pytest.approx(1.0), 5)
    zero = measure_rank(torch.zeros(8, 5))
    assert (zero.effective_rank, zero.correlation) == (0.0, None)
    rounding = measure_rank(torch.ones(8, 500) + 1e-7 * torch.rand(8, 500))
    assert rounding.effective_rank == 0.0
    single = torch.zeros(8, 5)
    single[3] = 1.0  # the only sample with a direction
    assert measure_rank(single).correlation is None
    width_one = measure_rank(torch.arange(1.0, 9.0))
    assert (width_one.effective_rank, width_one.limit) == (pytest.approx(1.0), 1)
    for bad in (torch.nan, torch.inf):
        spoilt = torch.randn(4, 4)
        spoilt[0, 0] = bad
        found = measure_rank(spoilt)
        assert (found.effective_rank, found.limit, found.correlation) == (None, None, None)


def test_many_samples_and_entries_are_thinned_out_evenly() -> None:
    torch.manual_seed(0)
    # rows share a mean; both numbers are known in expectation: cos = 1 / 2, the rank near its limit
    outputs = torch.randn(1, 8 * ENTRIES) + torch.randn(SAMPLES * 2, 8 * ENTRIES)
    found = measure_rank(outputs)
    assert found.limit == SAMPLES - 1
    assert found.correlation == pytest.approx(0.5, abs=0.02)
    assert found.effective_rank == pytest.approx(SAMPLES - 1, rel=0.02)
    # channels last: a step that divides their number would see one channel, which is constant
    channels = torch.randn(4, 4 * ENTRIES // 8, 8)
    channels[:, :, ::2] = 1.0
    truth = reference.mean_cosine(channels.flatten(1).numpy())
    assert measure_rank(channels).correlation == pytest.approx(truth, abs=0.02)


class Blocks(nn.Module):
    """Weights, a norm, an activation, a block without weights, and a checkpointed layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool = nn.Flatten()
        self.body = nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.inlet(x))
        for _ in range(2):
            x = self.body(x)
        return checkpoint(self.head, x, use_reentrant=False)  # type: ignore[return-value]


def test_rows_of_modules_with_weights_are_filled() -> None:
    torch.manual_seed(0)
    model, x = Blocks(), torch.randn(6, 2, 6, 6)
    rows, missing = measured(model, x)
    assert missing == ()
    filled = {key for key, row in rows.items() if row.effective_rank is not None}
    assert filled == {
        *(("", 0), ("inlet", 0), ("inlet.0", 0)),
        *(("body", 0), ("body", 1), ("head", 0)),
    }
    with torch.no_grad():
        convolved = model.inlet[0](x).flatten(1).numpy()
        hidden = model.inlet(x).flatten(1)
    for key, truth in {
        ("inlet.0", 0): convolved,
        ("inlet", 0): hidden.numpy(),
        ("body", 1): model.body(model.body(hidden)).detach().numpy(),
        ("head", 0): model.head(model.body(model.body(hidden))).detach().numpy(),
    }.items():
        row = rows[key]
        assert row.effective_rank == pytest.approx(reference.effective_rank(truth), rel=1e-3)
        assert row.sample_correlation == pytest.approx(reference.mean_cosine(truth), abs=1e-5)
    assert rows["body", 0].rank_limit == 5


def test_time_first_modules_are_compared_by_sample() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Net(), torch.randn(7, 5, 3)
    rows, _ = measured(model, x, torch.zeros(5))
    with torch.no_grad():
        truth = model.rnn(x)[0].transpose(0, 1).flatten(1).numpy()
    assert rows["rnn", 0].rank_limit == 4
    assert rows["rnn", 0].sample_correlation == pytest.approx(
        reference.mean_cosine(truth), abs=1e-6
    )


def test_one_sample_and_spoilt_outputs_are_said() -> None:
    rows, missing = measured(nn.Linear(3, 3), torch.randn(1, 3))
    assert rows["", 0].effective_rank is None
    assert [(m.what, m.why) for m in missing] == [
        ("effective rank and sample correlation", "they compare samples: there is one")
    ]
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.inf
    rows, missing = measured(model, torch.randn(4, 3))
    assert rows["0", 0].effective_rank is not None
    assert rows["1", 0].effective_rank is None
    assert ("effective rank and sample correlation", "1, the model") in {
        (m.what, m.where) for m in missing
    }


def test_calls_past_the_budget_are_said() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(CALLS + 3):
                x = torch.tanh(self.cell(x))
            return x

    rows, missing = measured(Loop(), torch.randn(4, 2))
    assert rows["cell", CALLS - 1].effective_rank is not None
    assert rows["cell", CALLS].effective_rank is None
    assert [m.where for m in missing] == ["4 calls"]
