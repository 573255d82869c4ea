"""The noise scale against brute force, its interval over seeds, and what it cannot tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.probes._sketch import WIDTH, GradientSketches
from gradaudit.probes.gradients import RealLoss, measure_real_loss
from gradaudit.probes.noise_scale import noise_scale
from gradaudit.records import Estimate
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened
from tests import reference
from tests.probes.lossy import MSE, Loss, mlp, opened

QUICK, STANDARD, THOROUGH = (Settings(effort=e) for e in ("quick", "standard", "thorough"))
Batches = list[tuple[Any, Any]]


def measured(subject: Opened, settings: Settings = STANDARD) -> RealLoss:
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        return measure_real_loss(subject, settings)


def found(model: nn.Module, batches: Batches, loss: Loss = MSE, **options: Any) -> Estimate:
    result = measured(opened(model, batches, loss), **options)
    assert result.noise_scale is not None, result.not_measured
    return result.noise_scale


def why(model: nn.Module, batches: Batches, loss: Loss = MSE, **options: Any) -> str:
    result = measured(opened(model, batches, loss), **options)
    assert result.noise_scale is None
    (reason,) = [n.why for n in result.not_measured if n.what == "gradient noise scale"]
    return reason


def flat_gradient(model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    loss = F.mse_loss(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([g.flatten() for g in gradients]).double().numpy()


def noisy(count: int, size: int = 16, noise: float = 0.5) -> Batches:
    truth = torch.randn(6, 2)
    xs = [torch.randn(size, 6) for _ in range(count)]
    return [(x, x @ truth + noise * torch.randn(size, 2)) for x in xs]


def test_the_value_is_the_unbiased_one_of_all_pairs() -> None:
    torch.manual_seed(0)
    model, batches = mlp(), noisy(6)
    gradients = np.stack([flat_gradient(model, x, y) for x, y in batches])
    truth = reference.unbiased_noise_scale(gradients, 16)
    estimate = found(model, batches)
    assert estimate.value == pytest.approx(truth, rel=1e-4)
    assert estimate.unit == "samples"
    assert estimate.low is not None
    assert estimate.low < truth


def test_a_sum_over_samples_gives_the_same_as_a_mean() -> None:
    torch.manual_seed(1)
    model, batches = mlp(), noisy(6)
    total = Loss(lambda output, target: F.mse_loss(output, target, reduction="sum"))
    mean, summed = found(model, batches), found(model, batches, total)
    assert summed.value == pytest.approx(mean.value, rel=1e-4)
    assert summed.low == pytest.approx(mean.low, rel=1e-3)


def linear(seed: int, batches: int, size: int) -> tuple[nn.Module, Batches, float]:
    """Least squares on normal inputs, whose noise scale is known: d + 1 + sigma^2 d / |w - w*|^2.

    With r = x.e + sigma n, e = w - w*, a sample's gradient is 2 r x. Its mean is 2 e, its mean
    square 4 (|e|^2 (d + 2) + sigma^2 d).
    """
    generator = torch.Generator().manual_seed(seed)
    d, sigma = 12, 2.0
    model = nn.Linear(d, 1, bias=False)
    off = torch.randn(d, generator=generator)
    with torch.no_grad():
        model.weight.copy_(off)  # the true weights are zero
    made = []
    for _ in range(batches):
        x = torch.randn(size, d, generator=generator)
        made.append((x, sigma * torch.randn(size, 1, generator=generator)))
    return model, made, d + 1 + sigma**2 * d / float(off @ off)


@pytest.mark.parametrize(("batches", "size"), [(6, 8), (1, 48), (2, 32)])
def test_the_interval_holds_the_truth_as_often_as_it_says(batches: int, size: int) -> None:
    held, ratios = 0, []
    for seed in range(200):
        model, made, truth = linear(seed, batches, size)
        estimate = found(model, made)
        assert estimate.low is not None
        top = math.inf if estimate.high is None else estimate.high
        held += estimate.low <= truth <= top
        ratios.append(estimate.value / truth)
    assert 0.92 * 200 <= held <= 0.995 * 200
    assert 0.85 < float(np.median(ratios)) < 1.2


def test_the_interval_holds_a_populations_brute_force_value() -> None:
    torch.manual_seed(2)
    model, (whole,) = mlp(), noisy(1, size=400)
    x, y = whole
    each = np.stack([flat_gradient(model, x[i : i + 1], y[i : i + 1]) for i in range(400)])
    truth, held = reference.noise_scale(each), 0
    for _ in range(100):
        drawn = [torch.randint(400, (8,)) for _ in range(6)]
        estimate = found(model, [(x[rows], y[rows]) for rows in drawn])
        assert estimate.low is not None
        held += estimate.low <= truth <= (estimate.high or math.inf)
    assert held >= 91  # 95 of 100, less two standard errors


def test_more_batches_narrow_the_interval() -> None:
    model, few, _ = linear(0, 6, 16)
    _, many, truth = linear(0, 60, 16)
    wide, narrow = found(model, few), found(model, many, settings=THOROUGH)
    assert wide.low is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert narrow.low <= truth <= narrow.high
    assert narrow.high / narrow.low < 3
    assert wide.high is None or wide.high / wide.low > narrow.high / narrow.low


def test_a_batch_of_another_size_is_left_out() -> None:
    torch.manual_seed(3)
    model, batches = mlp(), noisy(5)
    short = (batches[0][0][:7], batches[0][1][:7])
    assert found(model, [*batches, short]) == found(model, batches)


class LastStep(nn.Module):
    """A GRU's word at the last step, for sequences that come time first or batch first."""

    def __init__(self, gru: nn.GRU, head: nn.Linear) -> None:
        super().__init__()
        self.gru, self.head = gru, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0].select(1 if self.gru.batch_first else 0, -1))


def test_time_first_batches_count_the_same_samples() -> None:
    torch.manual_seed(13)
    gru, head = nn.GRU(3, 6), nn.Linear(6, 1)
    turned = nn.GRU(3, 6, batch_first=True)
    turned.load_state_dict(gru.state_dict())
    xs = [torch.randn(40, 8, 3) for _ in range(6)]
    ys = [x[-1, :, :1] + 0.5 * torch.randn(8, 1) for x in xs]
    time_first = found(LastStep(gru, head), list(zip(xs, ys, strict=True)))
    batch_first = [(x.transpose(0, 1).contiguous(), y) for x, y in zip(xs, ys, strict=True)]
    expected = found(LastStep(turned, head), batch_first)
    assert time_first.value == pytest.approx(expected.value, rel=1e-3)
    flat = Loss(lambda output, target: F.mse_loss(output, target[:8]))
    untold = [(x, torch.randn(11, 1)) for x in xs]
    assert why(LastStep(gru, head), untold, flat).endswith("cannot be told")


def test_enough_batches_cost_no_pass_more() -> None:
    calls: list[int] = []
    model = mlp()
    model.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(4)
    found(model, noisy(9))
    assert len(calls) == STANDARD.budget.gradient_batches
    calls.clear()
    measured(opened(model, noisy(9)), QUICK)
    assert len(calls) == 1


def test_a_single_batch_is_split_and_the_model_comes_back() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    subject = opened(model, noisy(1, size=64))
    state = torch.get_rng_state()
    first, second = measured(subject), measured(subject)
    assert first.noise_scale is not None
    assert first == second
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    said = [n for n in first.not_measured if n.what.startswith("gradient noise scale")]
    assert [(n.where, "batches of 8" in n.why) for n in said] == [("1", True)]


class Constant(nn.Module):
    """A loss that no sample matters to."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.sum()


def test_what_cannot_be_told_is_said() -> None:
    torch.manual_seed(6)
    model, batches = mlp(), noisy(6)
    assert why(model, batches, settings=QUICK).endswith("this effort looks at fewer")
    assert "7 samples are too few" in why(model, noisy(1, size=7))
    assert "the same gradient" in why(model, [batches[0]] * 6)
    assert "all batches but one" in why(model, [*[batches[0]] * 5, batches[1]])
    itself = Loss(lambda output, _: output)
    assert "the same gradient" in why(Constant(), batches, itself)
    zero = Loss(lambda output, _: 0.0 * output.sum())
    assert "the gradient is zero" in why(model, batches, zero)
    alone = Loss(lambda output, target: F.mse_loss(output, target[: len(output)]))
    by_columns = [(torch.randn(8, 6), torch.randn(9, 2))]
    assert "which axis counts the samples" in why(model, by_columns, alone)


def test_a_part_that_the_model_refuses_is_said() -> None:
    class Eight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.line(x.reshape(16, 6))

    torch.manual_seed(7)
    assert "a part of one could not be run: the forward pass" in why(Eight(), noisy(1))


def test_gradients_that_do_not_agree_are_unresolved() -> None:
    apart = torch.full((6, 6), -0.01, dtype=torch.float64).fill_diagonal_(1.0)
    found = noise_scale(apart, 8)
    assert isinstance(found, str)
    assert found.startswith("unresolved: the gradients of 6 batches of 8 samples")
    alike = torch.full((6, 6), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    assert noise_scale(alike, 8) == Estimate(8.0, 8.0, 8.0, "samples")


def test_a_positive_signal_that_hangs_on_one_batch_has_no_upper_side() -> None:
    gradients = torch.tensor([[3.0, 0.0], [2.0, 0.5], [0.0, 1.0], [0.0, -1.0], [-0.1, 0.3]])
    gram = (gradients @ gradients.T).double()
    estimate = noise_scale(gram, 4)
    assert isinstance(estimate, Estimate)
    assert estimate.high is None
    assert estimate.low is not None
    assert 0 < estimate.low <= estimate.value


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_the_size_of_the_loss_does_not_matter(scale: float) -> None:
    torch.manual_seed(9)
    model, batches = mlp(), noisy(6)
    scaled = Loss(lambda output, target: F.mse_loss(output, target) * scale)
    expected, estimate = found(model, batches), found(model, batches, scaled)
    assert estimate.value == pytest.approx(expected.value, rel=1e-3)


def test_a_non_finite_batch_is_left_out() -> None:
    torch.manual_seed(10)
    model, batches = mlp(), noisy(5)
    spoilt = (batches[0][0], torch.full((16, 2), torch.inf))
    assert found(model, [*batches, spoilt]).value == found(model, batches).value


class Wide(nn.Module):
    """More parameters than a sketch holds, with a sparse table and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3000, 64, sparse=True)
        self.frozen, self.line = nn.Linear(64, 64), nn.Linear(64, 600)
        self.frozen.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.line(torch.tanh(self.frozen(self.table(tokens)))).mean(1)


def test_sketches_keep_inner_products_within_their_error() -> None:
    torch.manual_seed(11)
    model = Wide()
    sketches, exact = GradientSketches(model), []
    assert not sketches.exact
    assert sketches.error == pytest.approx((2 / WIDTH) ** 0.5)
    for _ in range(6):
        model.zero_grad(set_to_none=True)
        model(torch.randint(0, 3000, (8, 5))).square().mean().backward()
        sketches.add()
        kept = [p.grad.to_dense().flatten() for p in model.parameters() if p.grad is not None]
        exact.append(torch.cat(kept).double())
    truth = torch.stack(exact) @ torch.stack(exact).T
    norms = truth.diagonal().sqrt()
    errors = (sketches.gram() - truth) / norms[:, None] / norms[None, :]
    assert float(errors.abs().max()) < 5 * sketches.error


def test_sketches_of_structured_gradients_are_no_worse() -> None:
    # All of the gradient in one column of a weight whose rows are 256 long.
    model = nn.Linear(256, 1024, bias=False)
    errors = []
    for column in range(0, 256, 8):
        sketches = GradientSketches(model)
        gradient = torch.zeros(1024, 256)
        gradient[:, column] = torch.randn(1024, generator=torch.Generator().manual_seed(column))
        model.weight.grad = gradient
        sketches.add()
        errors.append(float(sketches.gram()[0, 0]) / float(gradient.double().square().sum()) - 1)
    assert float(np.abs(errors).max()) < 5 * sketches.error


def test_small_models_are_not_sketched() -> None:
    torch.manual_seed(12)
    model = mlp()
    sketches = GradientSketches(model)
    (x, y), (z, t) = noisy(2)
    rows = []
    for inputs, target in ((x, y), (z, t)):
        model.zero_grad()
        F.mse_loss(model(inputs), target).backward()
        sketches.add()
        kept = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        rows.append(torch.cat(kept).double())
    assert sketches.exact
    assert sketches.error == 0
    truth = torch.stack(rows) @ torch.stack(rows).T
    assert torch.allclose(sketches.gram(), truth, rtol=1e-6)
