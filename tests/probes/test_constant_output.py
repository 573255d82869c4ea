"""The best output that looks at no input, fitted, beside what is known in closed form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.probes.constant_output import constant_output
from gradaudit.subject.losses import LOSSES
from gradaudit.subject.objective import CustomObjective, NamedObjective
from gradaudit.subject.opened import Batch


def batches(target: Callable[[int], Tensor]) -> list[Batch]:
    torch.manual_seed(0)
    return [Batch((torch.randn(32, 5),), target(32)) for _ in range(3)]


@pytest.mark.parametrize(
    ("name", "target", "outputs"),
    [
        ("mse", lambda n: 3 + 2 * torch.randn(n, 4), 4),
        ("huber", lambda n: 5 * torch.randn(n, 2) + 1, 2),
        ("cross_entropy", lambda n: torch.randint(0, 3, (n,)) // 2, 3),
        ("bce_with_logits", lambda n: (torch.rand(n, 2) < 0.2).float(), 2),
    ],
)
def test_it_finds_what_named_losses_know(
    name: str, target: Callable[[int], Tensor], outputs: int
) -> None:
    found, data = NamedObjective(LOSSES[name], ""), batches(target)
    known = found.constant(tuple(data))
    assert known is not None
    fitted = constant_output(nn.Linear(5, outputs), found, data)
    assert fitted == pytest.approx(known, rel=1e-3)


class Pair(nn.Module):
    """A reconstruction and a code, as an autoencoder that is regularised gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.back = nn.Linear(5, 2), nn.Linear(2, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.code(x)
        return self.back(code), code


def test_outputs_of_several_parts_are_fitted_together() -> None:
    def loss(output: Any, target: Tensor) -> Tensor:
        image, code = output
        return F.mse_loss(image, target) + (code - 1.5).square().mean() + 0.25

    data = batches(lambda n: torch.randn(n, 5) * 2 + 7)
    every = torch.cat([batch.target for batch in data])
    wanted = float(every.var(0, correction=0).mean()) + 0.25
    fitted = constant_output(Pair(), CustomObjective(loss, ""), data)
    assert fitted == pytest.approx(wanted, rel=1e-3)


def test_the_model_and_the_random_stream_come_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1))
    before, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    data = batches(lambda n: torch.randn(n, 1))
    stream = torch.get_rng_state()
    constant_output(model, CustomObjective(lambda o, t: (o - t).abs().mean(), ""), data)
    assert torch.equal(torch.get_rng_state(), stream)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: output.sum() * 0 + float("nan"),
        lambda output, target: (_ for _ in ()).throw(ValueError("no")),
        lambda output, target: torch.tensor(1.0),  # does not depend on the output
    ],
)
def test_a_loss_that_refuses_gives_none(loss: Callable[[Any, Any], Tensor]) -> None:
    data = batches(lambda n: torch.randn(n, 1))
    assert constant_output(nn.Linear(5, 1), CustomObjective(loss, ""), data) is None
