"""Gradients of the real loss against float64 autograd, and the module calls against hand runs."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.errors import ModelError
from gradaudit.probes.gradients import RealLoss, measure_real_loss
from gradaudit.records import ModuleRow
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened
from tests.probes.lossy import CROSS_ENTROPY, MSE, Loss, mlp, opened, regression

QUICK, STANDARD, THOROUGH = (Settings(effort=e) for e in ("quick", "standard", "thorough"))


def measured(subject: Opened, settings: Settings = QUICK) -> RealLoss:
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        return measure_real_loss(subject, settings)


def row(result: RealLoss, module: str, call: int = 0) -> ModuleRow:
    return next(r for r in result.modules if (r.module, r.call) == (module, call))


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, 3, stride=2),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mlp, (8, 6)),
        (convolutional, (8, 1, 6, 6)),
        (Recurrent, (8, 5, 6)),
        (Transformer, (8, 5, 6)),
    ],
)
def test_parameter_gradients_are_those_of_float64_autograd(make: Any, shape: Any) -> None:
    torch.manual_seed(1)
    model, x, y = make(), torch.randn(shape), torch.randn(shape[0], 2)
    exact = copy.deepcopy(model).double()
    loss = F.mse_loss(exact(x.double()), y.double())
    loss.backward()
    result = measured(opened(model, [(x, y)]))
    assert result.loss is not None
    assert result.loss.initial is not None
    assert result.loss.initial.value == pytest.approx(float(loss.detach()), rel=1e-5)
    truth = {n: float(p.grad.norm()) for n, p in exact.named_parameters() if p.grad is not None}
    for parameter in result.parameters:
        assert parameter.connected
        assert parameter.gradient_norm is not None
        # a bias before a batch norm has gradient zero, known to rounding only
        expected = pytest.approx(truth[parameter.parameter], rel=1e-4, abs=1e-7)
        assert parameter.gradient_norm.value == expected
        assert parameter.gradient_norm.low == parameter.gradient_norm.high
        assert parameter.weight_norm == pytest.approx(
            float(exact.get_parameter(parameter.parameter).detach().norm()), rel=1e-6
        )
    assert result.gradient_norm is not None
    assert result.gradient_norm.max == pytest.approx(math.hypot(*truth.values()), rel=1e-5)
    assert not result.nonfinite
    assert [n.what for n in result.not_measured] == ["gradient noise scale"]  # of one batch


def test_module_rows_hold_the_rms_of_each_output_and_of_its_gradient() -> None:
    torch.manual_seed(2)
    model, ((x, y),) = mlp(), regression()
    exact = copy.deepcopy(model).double()
    kept, tensor = [], x.double()
    for layer in exact:
        tensor = layer(tensor)
        tensor.retain_grad()
        kept.append(tensor)
    F.mse_loss(tensor, y.double()).backward()
    result = measured(opened(model, [(x, y)]))
    assert [r.module for r in result.modules] == ["0", "1", "2", ""]
    assert [r.type for r in result.modules] == ["Linear", "Tanh", "Linear", "Sequential"]
    for i, tensor in enumerate(kept):
        found = row(result, str(i))
        assert found.output_rms == pytest.approx(rms(tensor), rel=1e-5)
        assert tensor.grad is not None
        assert found.gradient_rms == pytest.approx(rms(tensor.grad), rel=1e-5)
    assert row(result, "").gradient_rms == row(result, "2").gradient_rms


def test_several_batches_give_a_student_interval_of_the_mean() -> None:
    torch.manual_seed(3)
    model, batches = mlp(), regression(6)
    norms, losses = [], []
    for x, y in batches:
        model.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(float(model[0].weight.grad.norm()))
    model.zero_grad()
    result = measured(opened(model, batches), STANDARD)
    low, high = stats.t.interval(0.95, 5, np.mean(norms), stats.sem(norms))
    found = result.parameters[0].gradient_norm
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(norms), low, high), 1e-4)
    assert result.loss is not None
    assert result.loss.initial is not None
    assert result.loss.initial.value == pytest.approx(np.mean(losses), rel=1e-6)


def test_one_pass_per_batch_is_all_it_costs() -> None:
    calls = []
    model = mlp()
    model.register_forward_hook(lambda *_: calls.append(1))
    measured(opened(model, regression(9)), STANDARD)
    assert len(calls) == STANDARD.budget.gradient_batches


def residual_body(inplace: bool) -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(6, 6), nn.ReLU(inplace), nn.Linear(6, 6), nn.LeakyReLU(0.1, inplace)
    )


def test_in_place_activations_change_no_row() -> None:
    batches = regression()
    plain = measured(opened(residual_body(False), [(batches[0][0], torch.zeros(16, 6))]))
    in_place = measured(opened(residual_body(True), [(batches[0][0], torch.zeros(16, 6))]))
    assert plain.modules == in_place.modules
    assert plain.parameters == in_place.parameters


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.once, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.once(torch.tanh(self.once(x))))


def test_a_shared_module_has_one_row_per_call() -> None:
    torch.manual_seed(5)
    model, ((x, y),) = Shared(), regression()
    first = model.once(x)
    second = model.once(torch.tanh(first))
    loss = F.mse_loss(model.head(second), y)
    g1, g2 = torch.autograd.grad(loss, [first, second])
    result = measured(opened(model, [(x, y)]))
    for call, (output, gradient) in enumerate([(first, g1), (second, g2)]):
        found = row(result, "once", call)
        assert found.output_rms == pytest.approx(rms(output), rel=1e-5)
        assert found.gradient_rms == pytest.approx(rms(gradient), rel=1e-5)


class Checkpointed(nn.Module):
    """The same block twice in each of two segments, so that calls come back out of order."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.inlet, self.block = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head, self.reentrant = nn.Linear(6, 2), reentrant

    def segment(self, x: Tensor) -> Tensor:
        return torch.tanh(self.block(torch.tanh(self.block(x))))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        for _ in range(2):
            if self.reentrant is None:
                x = self.segment(x)
            else:
                x = checkpoint(self.segment, x, use_reentrant=self.reentrant)  # type: ignore[assignment]
        return self.head(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_calls_are_counted_once_and_keep_their_gradients(reentrant: bool) -> None:
    batches = regression()
    plain = measured(opened(Checkpointed(None), batches))
    under = measured(opened(Checkpointed(reentrant), batches))
    # Recomputation adds up in another order: the last bit of float32 may differ.
    for mine, other in zip(under.parameters, plain.parameters, strict=True):
        assert (mine.parameter, mine.connected) == (other.parameter, other.connected)
        assert mine.gradient_norm is not None
        assert other.gradient_norm is not None
        assert mine.gradient_norm.value == pytest.approx(other.gradient_norm.value, rel=1e-6)
    calls = [[r for r in m.modules if "(" not in r.module] for m in (under, plain)]
    for one, two in zip(*calls, strict=True):
        assert (one.module, one.call, one.type) == (two.module, two.call, two.type)
        assert one.output_rms == pytest.approx(two.output_rms, rel=1e-6)
        assert one.gradient_rms == pytest.approx(two.gradient_rms, rel=1e-6)
    assert sum(r.module == "block" for r in calls[0]) == 4


class Leftovers(nn.Module):
    """A frozen layer, a layer nobody calls, and one whose output nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.never = nn.Linear(6, 6), nn.Linear(6, 6)
        self.unused, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.frozen(x)
        self.unused(x)
        return self.head(x), {"hidden": x}


def test_frozen_and_disconnected_parameters_are_told_apart() -> None:
    loss = Loss(lambda output, target: F.mse_loss(output[0], target))
    result = measured(opened(Leftovers(), regression(), loss))
    found = {p.parameter: (p.trainable, p.connected, p.gradient_norm) for p in result.parameters}
    assert found["frozen.weight"] == (False, False, None)
    assert found["never.weight"] == (True, False, None)
    assert found["unused.weight"] == (True, False, None)
    assert found["head.weight"][:2] == (True, True)
    assert row(result, "unused").gradient_rms is None
    assert row(result, "unused").output_rms is not None
    assert row(result, "frozen").gradient_rms is None
    assert not any(r.module == "never" for r in result.modules)


def test_a_hugging_face_model_with_its_own_loss() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
        loss_type="ForCausalLMLoss",
    )  # fmt: skip
    model, tokens = GPT2LMHeadModel(config), torch.randint(0, 40, (4, 12))
    exact = copy.deepcopy(model).double()
    exact(input_ids=tokens, labels=tokens).loss.backward()
    own = Loss(lambda output, _: output.loss)
    subject = opened(model, [({"input_ids": tokens, "labels": tokens}, None)], own)
    result = measured(subject)
    for parameter in result.parameters:
        assert parameter.gradient_norm is not None
        truth = exact.get_parameter(parameter.parameter).grad
        assert truth is not None
        assert parameter.gradient_norm.value == pytest.approx(float(truth.norm()), rel=1e-4)
    assert row(result, "transformer.h.0.mlp.act").dead_fraction is not None
    assert row(result, "transformer.h.1").gradient_rms is not None
    assert not [r.module for r in result.modules if "(tanh)" in r.module]


@pytest.mark.parametrize("factor", [1e-30, 1e25])
def test_norms_hold_beyond_the_range_of_float32_squares(factor: float) -> None:
    torch.manual_seed(8)
    model, batches = mlp(), regression()
    plain = measured(opened(model, batches))
    scaled = Loss(lambda output, target: F.mse_loss(output, target) * factor)
    result = measured(opened(model, batches, scaled))
    for ours, reference in zip(result.parameters, plain.parameters, strict=True):
        assert ours.gradient_norm is not None
        assert reference.gradient_norm is not None
        assert ours.gradient_norm.value == pytest.approx(reference.gradient_norm.value * factor)
    expected = row(plain, "0").gradient_rms
    assert expected is not None
    assert row(result, "0").gradient_rms == pytest.approx(expected * factor)


def spiky(count: int, spike: float) -> list[tuple[Tensor, Tensor]]:
    """Batches that share inputs and targets, but for one whose targets are far away."""
    torch.manual_seed(9)
    x, y = torch.randn(8, 6), torch.randn(8, 2)
    return [(x, y)] * (count - 1) + [(x, y + spike)]


@pytest.mark.parametrize(
    ("count", "spike", "tail"),
    [
        (1, 0.0, "unresolved"),
        (28, 0.0, "unresolved"),
        (29, 0.0, "light"),
        (3, 100.0, "heavy"),
        (40, 100.0, "heavy"),
        (2, 100.0, "unresolved"),
    ],
)
def test_the_tail_is_named_only_with_enough_evidence(count: int, spike: float, tail: str) -> None:
    result = measured(opened(mlp(), spiky(count, spike)), THOROUGH).gradient_norm
    assert result is not None
    assert (result.batches, result.tail) == (count, tail)
    assert result.median <= result.p90 <= result.p95 <= result.max
    assert result.tail_why


def test_the_model_comes_back_bit_for_bit_and_without_hooks() -> None:
    torch.manual_seed(10)
    model = convolutional()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    subject = opened(model, [(torch.randn(4, 1, 6, 6), torch.randn(4, 2))])
    model.train()
    measure_real_loss(subject, QUICK)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    assert not any(a or b for a, b in hooks)


class Raising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such luck\nand more")


def test_what_the_users_code_raises_is_one_line() -> None:
    model = Raising()
    with pytest.raises(ModelError, match=r"^the forward pass raised ValueError: no such luck$"):
        measured(opened(model, regression()))
    assert not model._forward_hooks
    per_sample = Loss(lambda output, target: (output - target).square())
    with pytest.raises(ModelError, match=r"expected one float; found torch.float32 \(16, 2\)"):
        measured(opened(mlp(), regression(), per_sample))
    broken = Loss(lambda output, target: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match="the loss raised ZeroDivisionError"):
        measured(opened(mlp(), regression(), broken))


def test_what_cannot_be_measured_is_said() -> None:
    only_weights = measure_real_loss(opened(None, []), QUICK)
    assert [n.why for n in only_weights.not_measured] == ["only weights were opened"]
    no_data = measure_real_loss(opened(mlp(), []), QUICK)
    assert [n.why for n in no_data.not_measured] == ["there is no data or no loss"]
    frozen = mlp().requires_grad_(False)
    result = measured(opened(frozen, regression()))
    assert [n.what for n in result.not_measured] == ["gradients"]
    assert result.gradient_norm is None
    assert not any(p.connected for p in result.parameters)


def test_non_finite_numbers_are_named_and_kept_out_of_the_rows() -> None:
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    good = (torch.randn(8, 6), torch.randint(0, 3, (8,)))
    ignored = (torch.randn(8, 6), torch.full((8,), -100))
    result = measured(opened(model, [good, ignored], CROSS_ENTROPY), STANDARD)
    assert [(n.phase, n.op) for n in result.nonfinite] == [("loss", "nll_loss")]
    assert result.loss is not None
    assert result.loss.initial is not None
    expected = float(F.cross_entropy(model(good[0]), good[1]).detach())
    assert result.loss.initial.value == pytest.approx(expected)
    said = {n.what: n.where for n in result.not_measured}
    assert said.pop("gradient noise scale") == "the model"  # of two batches of eight
    assert said == {"initial loss": "1 of 2 batches"}


def test_non_finite_weights_are_named_before_anything_runs() -> None:
    model, batches = mlp(), regression()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    result = measured(opened(model, batches, MSE))
    assert [(n.phase, n.module, n.parameter) for n in result.nonfinite] == [
        ("weights", "2", "2.weight")
    ]
    spoilt = next(p for p in result.parameters if p.parameter == "2.weight")
    kept = model[2].weight.detach().nan_to_num(0.0)
    assert spoilt.weight_norm == pytest.approx(float(kept.norm()))
    assert spoilt.gradient_norm is None
    assert row(result, "2").output_rms is None
    assert {n.what for n in result.not_measured} == {
        "initial loss",
        "gradient norm",
        "output or gradient rms",
        "effective rank and sample correlation",
    }


def test_sparse_gradients_are_measured() -> None:
    torch.manual_seed(12)
    table = nn.Embedding(10, 4, sparse=True)
    model, tokens = nn.Sequential(table, nn.Linear(4, 2)), torch.randint(0, 10, (6, 5))
    target = torch.zeros(6, 5, 2)
    F.mse_loss(model(tokens), target).backward()
    assert table.weight.grad is not None
    truth = float(table.weight.grad.to_dense().norm())
    model.zero_grad(set_to_none=True)
    result = measured(opened(model, [(tokens, target)]))
    assert result.parameters[0].gradient_norm is not None
    assert result.parameters[0].gradient_norm.value == pytest.approx(truth, rel=1e-5)
