"""Layer-sequential unit variance, against the forward pass it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradaudit.mending.change import START, changed
from gradaudit.mending.lsuv import lsuv
from gradaudit.records import Remedy
from gradaudit.subject import Opened
from tests.subjects import opened
from tests.test_api import random_state, same, state_of


def made(kind: Any, *shape: int, dtype: torch.dtype = torch.float64) -> Opened:
    torch.manual_seed(4)
    model = kind().to(dtype)
    x = 7 + 30 * torch.randn(*shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    return opened(model, x)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.second(self.first(x).relu())).relu()
        return self.head(x.mean((2, 3)))


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(6, 20), nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(input=self.early(input=x).tanh())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(6, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for block in self.blocks:
            x = x + block(x.relu())
        return x


def deep() -> nn.Module:
    layers = [layer for _ in range(12) for layer in (nn.Linear(24, 24), nn.ReLU())]
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), *layers, nn.Linear(24, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)  # explodes as it is
    return model


SUBJECTS = {
    "deep": lambda: made(deep, 64, 6),
    "convolutions": lambda: made(Convolutions, 8, 3, 10, 10),
    "keyword": lambda: made(ByKeyword, 64, 6),
    "residual": lambda: made(Residual, 64, 6),
    "sequence": lambda: made(lambda: nn.Conv1d(4, 9, 3), 5, 4, 20),
}


def variances(subject: Opened) -> dict[str, float]:
    """Of what each layer gives, by a plain forward pass."""
    found: dict[str, float] = {}
    model = subject.model
    assert model is not None

    def see(name: str) -> Any:
        return lambda _, __, output: found.update({name: float(output.var())})

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    handles = [
        module.register_forward_hook(see(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        subject.batches[0].run(model)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_layers_output_has_variance_1(name: str) -> None:
    subject = SUBJECTS[name]()
    remedy = lsuv(subject, 3)
    assert remedy is not None
    assert remedy.safety == START
    before = variances(subject)
    assert any(abs(value - 1) > 0.1 for value in before.values())
    with changed(subject, [remedy], 3) as loan:
        after = variances(loan)
    assert after.keys() == before.keys()
    assert after == pytest.approx(dict.fromkeys(after, 1.0), rel=0.02)
    assert remedy.sets == tuple(f"{layer}.weight" for layer in remedy.parameters["gain"])  # type: ignore[attr-defined]


def test_the_code_draws_orthogonal_weights_of_those_gains_and_no_bias() -> None:
    subject = SUBJECTS["deep"]()
    remedy = lsuv(subject, 3)
    assert remedy is not None
    gains: Any = remedy.parameters["gain"]
    assert len(gains) == 14
    with changed(subject, [remedy], 3) as loan:
        assert loan.model is not None
        for name, gain in gains.items():
            layer: Any = loan.model.get_submodule(name)
            short = (
                layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
            )
            square = (short @ short.T).detach()
            assert torch.allclose(square, gain**2 * torch.eye(len(short)).double(), rtol=1e-6)
            assert not layer.bias.any()


def test_the_model_comes_back_and_nothing_is_drawn_from_the_global_stream() -> None:
    subject = SUBJECTS["convolutions"]()
    assert subject.model is not None
    subject.model.head.weight.grad = torch.ones(5, 12).double()  # type: ignore[union-attr]
    before, generators = state_of(subject.model), random_state()
    assert lsuv(subject, 3) == lsuv(subject, 3)
    assert same(state_of(subject.model), before)
    assert same(random_state(), generators)


def test_a_model_that_raises_comes_back_too() -> None:
    class Raises(ByKeyword):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError(f"no {super().forward(x).shape}")

    subject = made(Raises, 8, 6)
    assert subject.model is not None
    before = state_of(subject.model)
    with pytest.raises(ArithmeticError):
        lsuv(subject, 0)
    assert same(state_of(subject.model), before)


def layers(remedy: Remedy | None) -> list[str]:
    assert remedy is not None
    gains: Any = remedy.parameters["gain"]
    return list(gains)


def test_frozen_parametrized_and_uncalled_layers_are_left_alone() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(6, 6).requires_grad_(False)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
            self.plain = nn.Linear(6, 6)
            self.unused = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.plain(self.normed(self.frozen(x)))

    assert layers(lsuv(made(Mixed, 16, 6), 0)) == ["plain"]


def test_a_layer_that_is_called_twice_is_drawn_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(x).relu())

    subject = made(Twice, 16, 6)
    remedy = lsuv(subject, 0)
    assert layers(remedy) == ["shared"]
    assert remedy is not None
    with changed(subject, [remedy], 0) as loan:
        assert loan.model is not None
        first = loan.model.shared(loan.batches[0].inputs[0]).detach()  # type: ignore[operator]
        assert float(first.var()) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_left_alone(dtype: torch.dtype) -> None:
    assert lsuv(made(ByKeyword, 16, 6, dtype=dtype), 0) is None


def test_there_is_none_where_an_output_does_not_vary_or_nothing_is_there() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x) * 0)

    assert lsuv(made(Dead, 16, 6), 0) is None
    assert lsuv(made(nn.Tanh, 16, 6), 0) is None
    subject = SUBJECTS["deep"]()
    assert lsuv(Opened(**{**vars(subject), "batches": ()}), 0) is None
    assert lsuv(Opened(**{**vars(subject), "model": None}), 0) is None
