"""The loss of a perfect prediction: what no training can get below."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradaudit.subject import Batch
from gradaudit.subject.auto_loss import auto_objective
from gradaudit.subject.code import UserCode
from gradaudit.subject.losses import LOSSES
from gradaudit.subject.objective import given_objective, named_objective

O5 = torch.randn(6, 5)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def searched(name: str, y: torch.Tensor) -> float:
    """The lowest loss that L-BFGS finds over free logits, values or log-probabilities."""
    free = torch.zeros(y.shape, dtype=torch.float64, requires_grad=True)
    made = {
        "nll": lambda: free.log_softmax(1),
        "nll_of_probabilities": lambda: free.softmax(1),
        "bce": free.sigmoid,
        "kl_div": lambda: free.log_softmax(1),
    }.get(name, lambda: free)
    optimizer = torch.optim.LBFGS([free], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = LOSSES[name](made(), y)
        value.backward()
        return value

    optimizer.step(closure)
    return float(LOSSES[name](made(), y).detach())


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "nll_of_probabilities"])
def test_probabilities_cost_their_own_entropy(name: str) -> None:
    y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    found = named_objective(name, "").least((Batch((), y[:5]), Batch((), y[5:])))
    best = searched(name, y)
    assert best > 0.5
    assert found == pytest.approx(best, rel=1e-4)
    assert found <= best + 1e-9


def test_probabilities_of_sequences() -> None:
    y = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).softmax(2)
    found = named_objective("cross_entropy", "").least((Batch((), y),))
    assert found == pytest.approx(float(F.cross_entropy(y.log().mT, y.mT)), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "bce_with_logits"])
def test_shares_cost_their_own_entropy(name: str) -> None:
    y = torch.rand(12, 3, generator=torch.Generator().manual_seed(2)).double()
    found = named_objective(name, "").least((Batch((), y[:5]), Batch((), y[5:])))
    best = searched(name, y)
    assert best > 0.2
    assert found == pytest.approx(best, rel=1e-4)
    assert found <= best + 1e-9
    assert named_objective(name, "").least((Batch((), 2 * y),)) is None
    assert named_objective(name, "").least((Batch((), -y),)) is None


@pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1", "huber", "kl_div"])
def test_what_can_be_met_costs_nothing(name: str) -> None:
    y = torch.randn(12, 3, generator=torch.Generator().manual_seed(3)).double()
    y = y.softmax(1) if name == "kl_div" else y
    assert named_objective(name, "").least((Batch((), y),)) == 0.0
    assert searched(name, y) == pytest.approx(0.0, abs=1e-3)


def test_classes_can_be_met() -> None:
    y = torch.tensor([0, 2, 1, -100])
    for name in ("cross_entropy", "nll", "nll_of_probabilities"):
        assert named_objective(name, "").least((Batch((), y),)) == 0.0
    hard = F.one_hot(y[:3], 4).double()
    assert named_objective("cross_entropy", "").least((Batch((), hard),)) == 0.0
    binary = torch.tensor([0.0, 1, 1, 0])
    assert named_objective("bce", "").least((Batch((), binary),)) == 0.0


@pytest.mark.parametrize("name", ["poisson_nll", "soft_margin"])
def test_it_is_unknown_for_losses_that_it_is_not_known_of(name: str) -> None:
    assert named_objective(name, "").least((Batch((), torch.ones(4)),)) is None


def test_without_targets_it_is_unknown() -> None:
    assert named_objective("mse", "").least((Batch((), None),)) is None
    assert named_objective("cross_entropy", "").least((Batch((), LABELS * 0 - 100),)) is None


def test_of_the_users_own_loss() -> None:
    y = torch.rand(6, 5)
    soft = float(-(y * y.log() + (1 - y) * (1 - y).log()).mean())
    code = UserCode()
    given = given_objective(nn.BCEWithLogitsLoss(), code)
    assert given is not None
    assert given.least((Batch((), y),)) == pytest.approx(soft, rel=1e-5)
    unknown = given_objective(lambda o, t: (o - t).mean(), code)
    assert unknown is not None
    assert unknown.least((Batch((), y),)) is None
    smoothed = given_objective(nn.CrossEntropyLoss(label_smoothing=0.1), code)
    assert smoothed is not None
    assert smoothed.least((Batch((), LABELS),)) is None


def test_of_the_models_own_loss() -> None:
    own = auto_objective({"loss": torch.tensor(2.5), "logits": O5}, Batch((), None))
    assert own.least((Batch({"labels": LABELS}),)) == 0.0
    assert own.least((Batch({"labels": O5}),)) is None
    assert own.least((Batch((O5,)),)) is None


def test_the_classes_of_images_are_on_axis_1() -> None:
    """As the loss itself reads them."""
    y = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(4)).softmax(1)
    objective, batch = named_objective("cross_entropy", ""), Batch((), y)
    assert objective.least((batch,)) == pytest.approx(float(objective(y.log(), batch)), rel=1e-5)
    assert objective.least((batch,)) == pytest.approx(float(F.cross_entropy(y.log(), y)), rel=1e-5)
    mean = y.mean((0, 2, 3), keepdim=True).log().expand_as(y)
    assert objective.constant((batch,)) == pytest.approx(float(F.cross_entropy(mean, y)), rel=1e-5)
