"""Optimizers' steps, beside torch's own optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators.training import adagrad, adam, momentum

RATE = torch.tensor(0.1, dtype=torch.float64)


def random(*shape: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def test_adam_as_torchs() -> None:
    start = [random(3, seed=0), random(2, 2, seed=1)]
    own = [each.clone().requires_grad_() for each in start]
    optimizer = torch.optim.Adam(own, lr=0.1, eps=0.0, weight_decay=0.01)
    values = start
    means = squares = [torch.zeros_like(each) for each in start]
    for step in range(1, 4):
        gradients = [random(3, seed=10 + step), random(2, 2, seed=20 + step)]
        for each, gradient in zip(own, gradients, strict=True):
            each.grad = gradient.clone()
        optimizer.step()
        results = adam(
            RATE,
            torch.tensor(step),
            *values,
            *gradients,
            *means,
            *squares,
            epsilon=0.0,
            norm_coefficient=0.01,
        )
        values, means, squares = list(results[:2]), list(results[2:4]), list(results[4:])
    for got, want in zip(values, own, strict=True):
        torch.testing.assert_close(got, want.detach())


def test_the_first_step_of_adam_has_the_given_rate() -> None:
    x, g, zero = torch.ones(1).double(), torch.ones(1).double(), torch.zeros(1).double()
    after, _, _ = adam(RATE, torch.tensor(0), x, g, zero, zero, alpha=0.5, beta=0.75, epsilon=0.0)
    torch.testing.assert_close(after, 1 - RATE * 0.5 / 0.25**0.5 * torch.ones(1).double())


def test_steps_have_gradients() -> None:
    given = tuple(random(3, seed=n).abs().requires_grad_() for n in range(3))
    t = torch.tensor(2)
    for mode in ("standard", "nesterov"):
        assert torch.autograd.gradcheck(
            lambda *x, m=mode: momentum(
                RATE, t, *x, alpha=0.9, beta=0.5, mode=m, norm_coefficient=0.1
            ),
            given,
        )
    assert torch.autograd.gradcheck(lambda *x: adagrad(RATE, t, *x, decay_factor=0.1), given)


def test_what_cannot_be_is_said() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="expected 3 tensors for each variable, found 2"):
        adagrad(RATE, one, one, one)
    with pytest.raises(ValueError, match="standard or nesterov, found 'heavy'"):
        momentum(RATE, one, one, one, one, alpha=1, beta=1, mode="heavy", norm_coefficient=0)
