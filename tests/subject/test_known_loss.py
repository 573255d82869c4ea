"""Custom losses that are known ones under another name, and those that are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradaudit
from gradaudit.settings import Settings
from gradaudit.subject import from_python

LOGITS, CLASSES = torch.randn(6, 7, 5), torch.randint(0, 5, (6, 7))


@pytest.mark.parametrize(
    ("loss", "target", "kind"),
    [
        (lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten()), CLASSES, "cross_entropy"),
        (lambda o, t: F.cross_entropy(o.transpose(1, 2), t), CLASSES, "cross_entropy"),
        (
            lambda o, t: -o.log_softmax(-1).gather(-1, t[..., None]).sum() / t.numel(),
            CLASSES,
            "cross_entropy",
        ),
        (lambda o, t: ((o - t) ** 2).mean(), torch.randn(6, 7, 5), "mse"),
        (lambda o, t: (o - t).abs().mean(), torch.randn(6, 7, 5), "l1"),
    ],
)
def test_a_custom_loss_that_equals_a_named_one_is_known(
    loss: Callable, target: torch.Tensor, kind: str
) -> None:
    model, x = nn.Linear(4, 5), torch.randn(6, 7, 4)
    found = from_python(model, (x, target), loss, None, Settings())
    named = from_python(model, (x, target), kind, None, Settings())
    assert found.objective.kind == kind
    assert f"On the first batch it equals {kind}." in found.objective.why
    assert found.objective.constant(found.batches) == named.objective.constant(named.batches)
    (batch,) = named.batches
    assert found.objective.chance(LOGITS, batch) == named.objective.chance(LOGITS, batch)
    assert found.not_measured == ()


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: 1.001 * F.cross_entropy(o.flatten(0, 1), t.flatten()),
        lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten(), label_smoothing=0.1),
        lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten(), ignore_index=0),
        lambda o, t: 0 * o.sum(),
        lambda o, t: torch.nan * o.sum(),
    ],
)
def test_what_a_guess_costs_under_another_loss_is_not_measured(loss: Callable) -> None:
    sample = (torch.randn(6, 7, 4), CLASSES)
    found = from_python(nn.Linear(4, 5), sample, loss, None, Settings())
    assert found.objective.chance(LOGITS, found.batches[0]) is None
    (gap,) = found.not_measured
    assert (gap.what, gap.where) == ("loss at chance", "the model")
    assert "custom (<lambda>)" in gap.why


def test_a_value_that_many_losses_share_tells_nothing() -> None:
    def l1(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).abs().mean()

    x = torch.randn(6, 4)
    for scale, dtype in ((0.0, torch.float32), (1e30, torch.float32), (1.0, torch.bfloat16)):
        model = nn.Linear(4, 4, bias=False, dtype=dtype)
        given, target = x.to(dtype), torch.zeros(6, 4, dtype=dtype)
        with torch.no_grad():
            model.weight.mul_(scale)
        squares = from_python(
            model, (given, target), lambda o, t: (o - t).square().mean(), None, Settings()
        )
        assert squares.objective.kind == "custom (<lambda>)"
    assert from_python(nn.Linear(4, 4), (x, x), l1, None, Settings()).objective.kind == "l1"


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (lambda o, t: (o - t).abs().mean(), "l1"),
        (lambda o, t: (o - t).square().mean(), "mse"),
        (lambda o, t: (1 - o * t).relu().mean(), "custom (<lambda>)"),
    ],
)
def test_losses_that_agree_at_an_output_of_zeros_are_told_apart(loss: Callable, kind: str) -> None:
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    x = torch.randn(64, 4)
    sample = (x, torch.where(x[:, :1] > 0, 1.0, -1.0))  # all three losses are exactly one
    assert from_python(model, sample, loss, None, Settings()).objective.kind == kind


def test_half_precision_outputs_that_the_loss_widens_are_known() -> None:
    sample = (torch.randn(6, 7, 4).bfloat16(), CLASSES)
    model = nn.Linear(4, 5, dtype=torch.bfloat16)
    found = from_python(
        model,
        sample,
        lambda o, t: F.cross_entropy(o.float().flatten(0, 1), t.flatten()),
        None,
        Settings(),
    )
    assert found.objective.kind == "cross_entropy"


class Tied(nn.Module):
    """A language model whose embedding of standard normal entries is its head as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embedding(x) @ self.embedding.weight.T


def test_a_start_far_off_chance_is_found_under_a_wrapped_loss_too() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 64, (128, 8))
    settings = Settings(effort="quick", threads=1)
    for loss in ("cross_entropy", lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten())):
        torch.manual_seed(0)
        report = gradaudit.audit(Tied(), (x, x.roll(1, 1)), loss=loss, settings=settings)
        (finding,) = (each for each in report.findings if each.code == "GA503")
        assert finding.severity == "fail"
