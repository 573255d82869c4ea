"""Remedies applied to a loan of the model: what they ask for is there, and then it is gone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.mending.change import SHOWN, START, applicable, changed, merged, set_start
from gradaudit.records import Recipe, Remedy
from gradaudit.subject import Batch, Opened
from tests.subjects import opened
from tests.test_api import random_state, same, state_of

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
DRAW = """\
import random
import numpy
import torch
with torch.no_grad():
    model[0].weight.normal_()
    model[2].bias.fill_(3.0)
model[0].mark = "changed"
model[1].register_forward_hook(lambda *_: None)
random.random(), numpy.random.rand()
"""


def remedy(safety: Any = "recipe only", code: str = "", **parameters: Any) -> Remedy:
    return Remedy("a", "recipe", "Change it.", parameters, code, safety, ("GA101",))


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[0].weight.grad = torch.ones(8, 4)  # type: ignore[union-attr]
    return model


def subject(model: nn.Module | None = None, **how: Any) -> Opened:
    return opened(model or net(), X, target=Y, recipe=Recipe("sgd", lr=0.1, steps=77), **how)


def weights(given: Opened) -> dict[str, Any]:
    assert given.model is not None
    return {name: value.clone() for name, value in given.model.state_dict().items()}


def test_start_values_are_changed_inside_and_put_back_bit_for_bit() -> None:
    model = net()
    before, generators, own = state_of(model), random_state(), dict(vars(model[0]))  # type: ignore[index]
    with changed(subject(model), [remedy(START, DRAW)], 5) as loan:
        assert loan.model is model
        assert not torch.equal(model.get_parameter("0.weight"), before["values"]["0.weight"])
        assert model.get_parameter("2.bias").tolist() == [3.0, 3.0]
        assert loan.batches[0].run(model).shape == (16, 2)  # moves the statistics of the norm
        torch.manual_seed(99)
    assert same(state_of(model), before)
    assert same(random_state(), generators)
    assert vars(model[0]).keys() == own.keys()  # type: ignore[index]


@pytest.mark.parametrize("where", ["body", "code"])
def test_it_is_put_back_also_where_something_raises(where: str) -> None:
    model = net()
    before, generators = state_of(model), random_state()
    code = DRAW if where == "body" else DRAW + "raise ArithmeticError('no')\n"

    def use() -> None:
        with changed(subject(model), [remedy(START, code)], 5) as loan:
            assert where == "body"
            loan.batches[0].run(model)
            raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        use()
    assert same(state_of(model), before)
    assert same(random_state(), generators)


def test_the_same_seed_gives_the_same_start_whatever_was_drawn_before() -> None:
    def start(seed: int) -> dict[str, Any]:
        torch.rand(random.randint(1, 99))
        with changed(subject(), [remedy(START, DRAW)], seed) as loan:
            return weights(loan)

    assert same(start(5), start(5))
    assert not same(start(5), start(6))


def test_setting_the_start_leaves_the_global_stream_alone() -> None:
    model = net()
    before = torch.get_rng_state()
    set_start(model, [remedy(START, DRAW)], 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.get_parameter("2.bias").tolist() == [3.0, 3.0]


def test_code_is_run_in_order_and_only_that_of_start_values() -> None:
    def adds(safety: Any, what: str) -> Remedy:
        return remedy(safety, f"model.said = getattr(model, 'said', '') + {what!r}")

    model = net()
    set_start(
        model,
        [adds(START, "a"), adds("recipe only", "b"), adds(SHOWN, "c"), adds(START, "d")],
        0,
    )
    assert model.said == "ad"


def test_what_is_only_shown_is_not_applicable() -> None:
    every = [remedy(START), remedy(SHOWN), remedy()]
    assert applicable(every) == (every[0], every[2])


def test_the_numbers_are_written_over_the_recipe() -> None:
    asked = remedy(
        optimizer="adamw",
        lr=0.003,
        momentum=None,
        betas=(0.8, 0.9),
        eps=1e-4,
        weight_decay=0.0,
        clip_norm=2.0,
        warmup_steps=12,
        schedule="linear",
        precision="bf16",
    )
    with changed(subject(), [asked], 0) as loan:
        assert loan.recipe == Recipe(
            *("adamw", 0.003, None, (0.8, 0.9), 1e-4, 0.0, 2.0, 12, 77, "bf16", "linear")
        )
    with changed(subject(), [], 0) as loan:
        assert loan.recipe == Recipe("sgd", lr=0.1, steps=77)


def test_of_two_rates_the_later_counts_and_none_says_nothing() -> None:
    with changed(subject(), [remedy(lr=1.0), remedy(lr=0.2), remedy(eps=0.5)], 0) as loan:
        assert (loan.recipe.lr, loan.recipe.eps) == (0.2, 0.5)
    given = Recipe("sgd", lr=0.1, momentum=0.9)
    assert merged(given, {"momentum": None, "lr": None}) == given
    assert merged(given, {"momentum": 0.0}).momentum == 0.0


SHIFT, SCALE = [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0]


def test_input_and_target_are_shifted_and_then_divided() -> None:
    data = remedy(input={"shift": SHIFT, "scale": SCALE}, target={"shift": 10.0, "scale": 5.0})
    with changed(subject(), [data], 0) as loan:
        (batch,) = loan.batches
        assert (
            batch.inputs[0].tolist() == ((X - torch.tensor(SHIFT)) / torch.tensor(SCALE)).tolist()
        )
        assert batch.target.tolist() == ((Y - 10) / 5).tolist()


def test_only_what_is_asked_for_is_scaled_and_the_users_batch_is_his_own() -> None:
    given, x, y = subject(), X.clone(), Y.clone()
    with changed(given, [remedy(input={"shift": 0.0, "scale": 2.0})], 0) as loan:
        assert torch.equal(loan.batches[0].inputs[0], X / 2)
        assert loan.batches[0].target is given.batches[0].target
    with changed(given, [remedy(target={"shift": 0.0, "scale": 2.0})], 0) as loan:
        assert loan.batches[0].inputs[0] is given.batches[0].inputs[0]
        assert torch.equal(loan.batches[0].target, Y / 2)
    assert torch.equal(X, x)
    assert torch.equal(Y, y)


def test_every_batch_the_first_input_and_no_labels_or_ids() -> None:
    both = {"shift": 1.0, "scale": 2.0}
    ids, labels = torch.arange(4), torch.tensor([0, 1, 1, 0])
    batches = (
        Batch((X, X), labels),
        Batch((X.double(), "text"), None),
        Batch((ids, X), Y),
        Batch({"x": X}, [1, 2]),
    )
    given = Opened(**{**vars(subject()), "batches": batches})
    with changed(given, [remedy(input=both, target=both)], 0) as loan:
        first, second, third, fourth = loan.batches
        assert torch.equal(first.inputs[0], (X - 1) / 2)
        assert first.inputs[1] is X
        assert first.target is labels
        assert second.inputs[0].dtype is torch.float64
        assert second.inputs[1] == "text"
        assert third.inputs == (ids, X)
        assert torch.equal(third.target, (Y - 1) / 2)
        assert fourth.inputs == {"x": X}
        assert fourth.target == [1, 2]


class Own(torch.optim.SGD):
    """An optimizer that torch does not have."""


def factory(parameters: Any) -> torch.optim.Optimizer:
    weight, *rest = list(parameters)
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": rest, "momentum": 0.5}]
    return Own(groups, lr=0.7)


def users() -> Opened:
    return Opened(**{**vars(subject()), "make_optimizer": factory})


def test_the_users_own_optimizer_keeps_class_and_groups_at_the_prescribed_rate() -> None:
    with changed(users(), [remedy(lr=0.02)], 0) as loan:
        assert loan.model is not None
        assert loan.make_optimizer is not None
        optimizer = loan.make_optimizer(list(loan.model.parameters()))
        assert type(optimizer) is Own
        kept = [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
        assert kept == [(0.02, 0.1, 0), (0.02, 0, 0.5)]
        assert [len(g["params"]) for g in optimizer.param_groups] == [1, 5]


def test_it_stays_as_it_is_where_nothing_is_asked_and_goes_where_another_kind_is() -> None:
    with changed(users(), [remedy(clip_norm=1.0)], 0) as loan:
        assert loan.make_optimizer is factory
    with changed(users(), [remedy(optimizer="adamw", lr=1e-3)], 0) as loan:
        assert loan.make_optimizer is None
        assert (loan.recipe.optimizer, loan.recipe.lr) == ("adamw", 1e-3)


def test_a_loan_inside_a_loan_starts_from_the_users_own_again() -> None:
    given = subject()
    before = weights(given)
    with changed(given, [remedy(START, DRAW)], 1) as outer:
        drawn = weights(outer)
        with changed(given, [remedy(START, "model[0].weight.data.zero_()")], 1) as inner:
            assert not inner.model.get_parameter("0.weight").any()  # type: ignore[union-attr]
        assert same(weights(outer), drawn)
    assert same(weights(given), before)
