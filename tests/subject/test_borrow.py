"""The borrowed model comes back bit for bit, whatever happens inside."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradaudit.subject import borrowed


class Stateful(nn.Module):
    """Counts, remembers, appends, and keeps state outside of parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("running", torch.zeros(4))
        self.steps = 0
        self.hidden: torch.Tensor | None = None
        self.kept = torch.ones(4)
        self.history: list[int] = []
        self.unregistered = [nn.BatchNorm1d(4)]
        self.generator = torch.Generator().manual_seed(3)
        self.numpy = np.random.default_rng(3)
        self.array = np.zeros(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.history.append(self.steps)
        self.kept.mul_(2)
        self.array += 1
        self.numpy.normal()
        self.hidden = self.unregistered[0](self.inner(x))
        self.running.mul_(0.5).add_(self.hidden.mean(0))  # gains a grad_fn
        noise = torch.rand(self.hidden.shape, generator=self.generator)
        return self.hidden + noise + random.random() + float(np.random.rand())


def _plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))


def _spectral() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 4))


def _parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    return model


MODELS: list[Callable[[], nn.Module]] = [_plain, _spectral, _parametrized, _tied, Stateful]


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything that can be compared, by value and by identity."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        attributes = vars(module)
        found[f"{name}/keys"] = list(attributes)
        found[f"{name}/ids"] = {key: id(value) for key, value in attributes.items()}
        for key, value in attributes.items():
            if isinstance(value, (dict, list, set)):
                found[f"{name}/{key}"] = (list(value), [id(v) for v in _values(value)])
            elif isinstance(value, (int, float, str)):
                found[f"{name}/{key}"] = value
    return found


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _train(model: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        model.zero_grad()
        if hasattr(model, "running"):
            model.running.detach_()
        model(torch.randn(6, 4)).pow(2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("make", MODELS)
def test_training_steps_leave_no_trace(make: Callable[[], nn.Module]) -> None:
    model = make()
    model.eval()
    model.train()
    next(model.children()).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    tensors = _tensors(model)
    grads = {name: getattr(t, "grad", None) for name, t in tensors.items() if t.is_leaf}
    grad_values = copy.deepcopy({k: v for k, v in grads.items() if v is not None})
    values = {name: t.detach().clone() for name, t in tensors.items()}
    pointers = {name: t.data_ptr() for name, t in tensors.items()}
    before = _state(model)
    with borrowed(model) as inside:
        assert inside is model
        assert all(p.grad is None for p in model.parameters())
        _train(model)
        changed = [n for n, t in _tensors(model).items() if not torch.equal(t, values[n])]
        assert changed, "the body must really change something"
    assert _state(model) == before
    after = _tensors(model)
    assert {n: id(t) for n, t in after.items()} == {n: id(t) for n, t in tensors.items()}
    assert all(torch.equal(after[n], values[n]) for n in values)
    assert {n: t.data_ptr() for n, t in after.items()} == pointers
    assert all(after[n].grad is grads[n] for n in grads)
    assert all(torch.equal(after[n].grad, grad_values[n]) for n in grad_values)


def test_state_outside_of_parameters() -> None:
    model = Stateful()
    norm = model.unregistered[0]
    with borrowed(model):
        first = model(torch.ones(3, 4)).detach()
    assert (model.steps, model.hidden, model.history) == (0, None, [])
    assert torch.equal(model.kept, torch.ones(4))
    assert model.array.tolist() == [0, 0]
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert model.running.grad_fn is None
    with borrowed(model):
        assert torch.equal(model(torch.ones(3, 4)).detach(), first)  # generators came back too


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_comes_back_when_forward_raises(error: type[BaseException]) -> None:
    class Raises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.norm(x)
            self.extra = 1
            raise error("on purpose")

    model = Raises().eval()
    mean = model.norm.running_mean.clone()
    with pytest.raises(error, match="on purpose"), borrowed(model, training=True):
        model(torch.randn(5, 4))
    assert torch.equal(model.norm.running_mean, mean)
    assert not model.training
    assert not model.norm.training
    assert not hasattr(model, "extra")


@pytest.mark.parametrize("mode", [True, False])
def test_training_mode_is_set_inside_only(mode: bool) -> None:
    model = _plain().train(not mode)
    with borrowed(model, training=mode):
        assert all(m.training is mode for m in model.modules())
    assert all(m.training is not mode for m in model.modules())


def test_random_states_and_flags() -> None:
    model = _plain()
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    flags = torch.backends.cudnn.benchmark
    with borrowed(model):
        torch.rand(3), random.random(), np.random.rand()
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = not flags
        torch.backends.mkldnn.set_flags(False)
        torch.use_deterministic_algorithms(True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.backends.cudnn.benchmark is flags
    assert torch._C._get_mkldnn_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_hooks_added_inside_are_gone_and_the_users_stay() -> None:
    model = _plain()
    calls: list[str] = []
    model.register_forward_hook(lambda *_: calls.append("user"))
    model[0].weight.register_hook(lambda g: calls.append("tensor"))
    with borrowed(model):
        model.register_forward_hook(lambda *_: calls.append("ours"))
        model[0].weight.register_hook(lambda g: calls.append("ours"))
        model[0].bias.register_hook(lambda g: calls.append("ours"))
        model[0].bias.register_post_accumulate_grad_hook(lambda p: calls.append("ours"))
    model(torch.randn(5, 4)).sum().backward()
    assert sorted(calls) == ["tensor", "user"]


def test_structure_replaced_inside() -> None:
    model = _plain()
    old = list(model)
    data = model[0].weight.data_ptr()
    with borrowed(model):
        model[0].weight.data = torch.zeros(8, 4, dtype=torch.float64)
        model[3].bias.requires_grad_(False)
        model[1] = nn.Identity()
        model.extra = nn.Linear(2, 2)
        del model[3].bias
        nn.utils.parametrizations.weight_norm(model[0])
    assert list(model) == old
    assert type(model[0]) is nn.Linear
    assert model[0].weight.data_ptr() == data
    assert model[0].weight.dtype == torch.float32
    assert model[3].bias.requires_grad


def test_lazy_modules_stay_lazy() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    with borrowed(model):
        model(torch.randn(5, 7))
        assert type(model[0]) is nn.Linear
    assert type(model[0]) is nn.LazyLinear
    assert type(model[1]) is nn.LazyBatchNorm1d
    assert isinstance(model[0].weight, nn.UninitializedParameter)
    assert model(torch.randn(5, 2)).shape == (5, 3)


def test_expanded_and_frozen_buffers() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("wide", torch.ones(1).expand(1000))
    with borrowed(model):
        model.wide[:1].mul_(5)  # all 1,000 share one element
    assert model.wide.sum() == 1000
    assert model.wide.stride() == (0,)


def test_graphs_made_before_can_still_be_differentiated() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    loss = model(torch.randn(2, 3)).sum()
    with borrowed(model):
        _ = model(torch.randn(2, 3))
    loss.backward()
    assert model[0].weight.grad is not None


def test_rnn_flat_weights_and_nested_borrowing() -> None:
    model = nn.LSTM(3, 4, num_layers=2)
    x = torch.randn(5, 2, 3)
    expected = model(x)[0].detach()
    with borrowed(model), borrowed(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        model(x)[0].sum().backward()
        optimizer.step()
        assert not torch.equal(model(x)[0], expected)
    assert torch.equal(model(x)[0].detach(), expected)


def test_memory_is_one_copy() -> None:
    model = nn.Linear(1000, 1000)
    model.also = model.weight  # a second name is not a second copy
    from gradaudit.subject import borrow

    snapshot = borrow._Snapshot()
    cloned: list[int] = []
    original = torch.Tensor.clone
    try:
        torch.Tensor.clone = lambda t, **k: cloned.append(t.numel()) or original(t, **k)  # type: ignore[method-assign]
        snapshot.take(model)
    finally:
        torch.Tensor.clone = original  # type: ignore[method-assign]
    snapshot.put_back()
    assert sum(cloned) == 1000 * 1000 + 1000


def test_a_loan_inside_another_shares_the_copies_of_what_did_not_change() -> None:
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])
    with torch.no_grad():
        model[0].bias[0], model[0].bias[1] = -0.0, torch.nan
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cloned: list[int] = []
    original = torch.Tensor.clone

    def counted(tensor: torch.Tensor, **options: Any) -> torch.Tensor:
        cloned.append(tensor.numel())
        return original(tensor, **options)

    with borrowed(model), torch.no_grad():
        model[3].weight.add_(1.0)
        model[0].bias[0] = 0.0  # equal to -0.0, but not the same bits
        changed = {key: value.clone() for key, value in model.state_dict().items()}
        torch.Tensor.clone = counted  # type: ignore[method-assign]
        try:
            with borrowed(model):
                assert sorted(cloned) == [64, 64 * 64]
                for parameter in model.parameters():
                    parameter.mul_(2.0)
        finally:
            torch.Tensor.clone = original  # type: ignore[method-assign]
        assert _bits(model) == _bits_of(changed)
        for parameter in model.parameters():
            parameter.mul_(3.0)
    assert _bits(model) == _bits_of(before)


def _bits(model: nn.Module) -> dict[str, bytes]:
    return _bits_of(model.state_dict())


def _bits_of(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {key: value.detach().numpy().tobytes() for key, value in state.items()}
