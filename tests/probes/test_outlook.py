"""Training beyond the rehearsal is the user's own loop, and leaves no trace on the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.errors import ModelError
from gradaudit.probes.expense import Expense, expense_of, is_cheap
from gradaudit.probes.outlook import LEAST, SHOWN, STEADY, measure_outlook, scheduled
from gradaudit.records import NotMeasured, Outlook, Recipe
from gradaudit.settings import BUDGETS, Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.objective import named_objective
from gradaudit.subject.opened import Opened
from tests.probes.lossy import Loss, mlp, opened, regression

Batches = list[tuple[Tensor, Tensor]]
Make = Callable[[Iterable[Any]], torch.optim.Optimizer]
MSE = named_objective("mse", "")
STANDARD = Settings()


def allowing(steps: int, expense: Expense) -> Settings:
    """An allowance for exactly that many of the recipe's steps."""
    allowance = (steps + 0.5) * 1.5 * expense.seconds
    return Settings(spent=replace(BUDGETS["standard"], allowance=allowance))


def subject_of(model: nn.Module | None, batches: Batches, **changes: Any) -> Opened:
    objective = changes.pop("objective", MSE)
    return replace(opened(model, batches, recipe=changes.pop("recipe", Recipe())), **changes,
                   objective=objective)  # fmt: skip


def measured(
    subject: Opened, settings: Settings = STANDARD, **options: Any
) -> tuple[Outlook | None, tuple[NotMeasured, ...]]:
    expense = expense_of(subject)
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        return measure_outlook(subject, settings, expense, **options)


def seen_by(subject: Opened, settings: Settings = STANDARD, **options: Any) -> Outlook:
    found, gaps = measured(subject, settings, **options)
    assert found is not None, gaps
    assert gaps == ()
    return found


def few(subject: Opened, steps: int) -> Outlook:
    """As many steps as that, of a recipe that may be longer."""
    expense = expense_of(subject)
    assert expense is not None
    return seen_by(subject, allowing(steps, expense))


def why_not(subject: Opened, settings: Settings = STANDARD) -> str:
    found, gaps = measured(subject, settings)
    assert found is None
    (gap,) = gaps
    assert (gap.what, gap.where) == ("training beyond the rehearsal", "the recipe")
    return gap.why


def with_dropout() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2)
    )


# --- the plain loop


def by_hand(
    model: nn.Module, batches: Batches, make: Make, recipe: Recipe, steps: int
) -> list[float]:
    """The training loop as a user would write it, its scheduler torch's own."""
    model = copy.deepcopy(model).train()
    optimizer = make(model.parameters())
    total, warm = recipe.steps, recipe.warmup or 0
    decay: Callable[[int], float] = {
        "cosine": lambda t: (1 + math.cos(math.pi * t / total)) / 2,
        "linear": lambda t: 1 - t / total,
    }.get(recipe.schedule or "", lambda _: 1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: decay(t) * (min(1.0, (t + 1) / warm) if warm else 1.0)
    )
    losses = []
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return losses


LOOPS: list[tuple[Recipe, Make]] = [
    (Recipe("sgd", 0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    (
        Recipe("sgd", 0.05, weight_decay=1e-2, clip_norm=0.3),
        lambda p: torch.optim.SGD(p, 0.05, weight_decay=1e-2),
    ),
    (
        Recipe("adam", 1e-2, betas=(0.8, 0.9), eps=1e-6, warmup=9),
        lambda p: torch.optim.Adam(p, 1e-2, betas=(0.8, 0.9), eps=1e-6),
    ),
    (
        Recipe("adam", 1e-2, schedule="linear", warmup=5),
        lambda p: torch.optim.Adam(p, 1e-2),
    ),
    (
        Recipe("adamw", 1e-2, weight_decay=0.1, schedule="cosine", warmup=7, clip_norm=0.5),
        lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    ),
]


@pytest.mark.parametrize(("recipe", "make"), LOOPS)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_losses_are_the_training_loops(recipe: Recipe, make: Make, count: int) -> None:
    torch.manual_seed(0)
    model, batches = with_dropout(), regression(count)
    recipe = replace(recipe, steps=60)
    trained_on = batches[:-1] if count >= 4 else batches
    state = torch.get_rng_state()
    losses = by_hand(model, trained_on, make, recipe, 40)
    torch.set_rng_state(state)
    found = few(subject_of(model, batches, recipe=recipe), 40)
    own = found.own
    assert (found.of, found.affordable, own.steps, own.broke_at) == (60, 40, 40, None)
    assert own.losses == tuple(losses)  # fewer than are shown: none is averaged
    assert (own.optimizer, own.lr) == (recipe.optimizer, recipe.lr)
    assert own.start == pytest.approx(math.fsum(losses[: len(trained_on)]) / len(trained_on))
    last = losses[-max(4, len(trained_on)) :]
    assert own.end == pytest.approx(math.fsum(last) / len(last))
    assert own.lowest <= own.start
    assert min(losses) <= own.lowest


def test_a_long_curve_is_shown_in_means_of_equal_parts() -> None:
    torch.manual_seed(0)
    model, batches = mlp(), regression(2)
    recipe = Recipe("sgd", 0.05, steps=101)
    losses = by_hand(model, batches, lambda p: torch.optim.SGD(p, 0.05), recipe, 101)
    own = seen_by(subject_of(model, batches, recipe=recipe)).own
    expected = [losses[i : i + 3] for i in range(0, 101, 3)]
    assert len(own.losses) == 34 <= SHOWN
    assert own.losses == pytest.approx([math.fsum(part) / len(part) for part in expected])
    assert own.end == pytest.approx(math.fsum(losses[-10:]) / 10)


def test_the_users_own_optimizer_takes_the_steps_at_its_groups_rates() -> None:
    torch.manual_seed(1)
    model, batches = mlp(), regression(2)

    def two_rates(parameters: Iterable[Any]) -> torch.optim.Optimizer:
        first, *rest = list(parameters)
        return torch.optim.Adagrad([{"params": [first], "lr": 0.2}, {"params": rest, "lr": 0.02}])

    recipe = Recipe(steps=30, schedule="linear", warmup=4)
    losses = by_hand(model, batches, two_rates, recipe, 30)
    own = seen_by(subject_of(model, batches, recipe=recipe, make_optimizer=two_rates)).own
    assert own.losses == tuple(losses)
    assert (own.optimizer, own.lr) == ("adagrad", 0.2)


def test_a_rate_stands_in_for_one_that_was_not_given() -> None:
    torch.manual_seed(1)
    subject = subject_of(mlp(), regression(2), recipe=Recipe("sgd", steps=30))
    assert seen_by(subject).own.lr == 1e-2
    own = seen_by(subject, lr=0.07).own
    given = seen_by(replace(subject, recipe=Recipe("sgd", 0.07, steps=30))).own
    assert own == given
    assert own.lr == 0.07


@pytest.mark.parametrize(
    ("schedule", "warmup", "shares"),
    [
        (None, None, [1, 1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1]),
        ("linear", None, [1, 0.75, 0.5, 0.25, 0]),
        ("linear", 2, [0.5, 0.75, 0.5, 0.25, 0]),
        ("cosine", None, [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]),
    ],
)
def test_share_of_the_rate(schedule: str | None, warmup: int | None, shares: list[float]) -> None:
    recipe = Recipe(steps=4, schedule=schedule, warmup=warmup)
    assert [scheduled(recipe, t) for t in range(5)] == pytest.approx(shares)
    assert scheduled(recipe, 9) == pytest.approx(shares[-1])


# --- the model comes back


class Raises(nn.Module):
    """Raises at a call of that number, over all trainings; ``calls`` is put back after each."""

    ever = 0

    def __init__(self, at: int) -> None:
        super().__init__()
        self.net, self.at, self.calls = with_dropout(), at, 0
        Raises.ever = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        Raises.ever += 1
        if Raises.ever == self.at:
            raise ValueError("no more")
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize("at", [0, 2, 30, 110])  # never, the first step, on the way, the steady one
def test_the_model_comes_back_bit_for_bit(at: int) -> None:
    torch.manual_seed(2)
    model = Raises(at).eval()
    model.net[1].train()
    model.net[0].weight.grad = torch.randn(16, 6)
    grad, kept = model.net[0].weight.grad, model.net[0].weight.grad.clone()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    subject = subject_of(model, regression(4), recipe=Recipe("sgd", 0.1, momentum=0.9, steps=60))
    expense = Expense(1e4, 10, 5, 6)
    state = torch.get_rng_state()
    with borrowed(model, training=True):
        if at:
            with pytest.raises(ModelError, match="ValueError: no more"):
                measure_outlook(subject, STANDARD, expense)
        else:
            assert measure_outlook(subject, STANDARD, expense)[0] is not None
            assert model.training
        # also inside the loan nothing has moved
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert model.net[0].weight.grad is grad
    assert torch.equal(grad, kept)
    assert model.calls == 0
    assert Raises.ever == (at or 60 + 21 + 30 + 31)  # steps and looks


# --- the batch held out


@pytest.mark.parametrize(("count", "held"), [(1, False), (3, False), (4, True), (6, True)])
def test_the_last_of_four_batches_and_more_is_held_out(count: int, held: bool) -> None:
    torch.manual_seed(3)
    batches = regression(count)
    found = seen_by(subject_of(mlp(), batches, recipe=Recipe("sgd", 0.05, steps=30)))
    looks = (found.own.held_start, found.own.held_lowest, found.own.held_out, found.held_constant)
    assert [look is not None for look in looks] == [held] * 4
    trained_on = batches[:-1] if held else batches
    targets = torch.cat([y for _, y in trained_on])
    assert found.constant == pytest.approx(float(targets.var(0, correction=0).mean()), rel=1e-5)
    if held:
        alone = batches[-1][1].var(0, correction=0).mean()
        assert found.held_constant == pytest.approx(float(alone), rel=1e-5)


def test_the_batch_held_out_is_looked_at_and_nothing_else() -> None:
    torch.manual_seed(4)
    model, batches = with_dropout(), regression(4)
    recipe = Recipe("sgd", 0.05, steps=60)
    state = torch.get_rng_state()
    found = seen_by(subject_of(model, batches, recipe=recipe))
    torch.set_rng_state(state)
    without = seen_by(subject_of(model, batches[:3], recipe=recipe))
    assert without.own.held_out is None
    assert found.own.losses == without.own.losses
    assert found.reference is not None
    assert without.reference is not None
    assert found.reference.losses == without.reference.losses


def test_what_the_looks_see_is_the_loss_in_training() -> None:
    torch.manual_seed(5)
    model, batches = mlp(), regression(5)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), 0.05)
    x, y = batches[-1]
    looks = []
    for step in range(32):
        if step % 2 == 0:
            looks.append(float(F.mse_loss(trained(x), y).detach()))
        optimizer.zero_grad()
        F.mse_loss(trained(batches[step % 4][0]), batches[step % 4][1]).backward()
        optimizer.step()
    looks.append(float(F.mse_loss(trained(x), y).detach()))
    own = seen_by(subject_of(model, batches, recipe=Recipe("sgd", 0.05, steps=32))).own
    assert (own.held_start, own.held_lowest, own.held_out) == (looks[0], min(looks), looks[-1])


def test_a_look_that_is_not_finite_is_no_level() -> None:
    torch.manual_seed(5)
    batches = regression(4)
    batches[-1] = (torch.full((16, 6), math.nan), batches[-1][1])
    own = seen_by(subject_of(mlp(), batches, recipe=Recipe("sgd", 0.05, steps=30))).own
    assert (own.held_start, own.held_lowest, own.held_out) == (None, None, None)
    assert (own.steps, own.broke_at) == (30, None)


class Forces(nn.Module):
    """Takes a gradient in its forward pass, as energy models do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (force,) = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)
        return force


def test_a_forward_pass_may_take_gradients_of_its_own() -> None:
    torch.manual_seed(6)
    batches = [(x := torch.randn(16, 6), -x) for _ in range(4)]
    own = seen_by(subject_of(Forces(), batches, recipe=Recipe("adam", 1e-2, steps=60))).own
    assert own.end < 0.9 * own.start
    assert own.held_out is not None


# --- training that breaks


def test_a_loss_that_is_not_finite_ends_it_at_its_step() -> None:
    torch.manual_seed(7)
    calls = []

    def breaks(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        loss = F.mse_loss(output, target)
        return loss * math.nan if len(calls) == 6 else loss

    loss = Loss(breaks, best_constant=2.0)
    subject = subject_of(mlp(), regression(1), recipe=Recipe("sgd", 0.01, steps=200))
    with borrowed(subject.model, training=True):  # type: ignore[arg-type]
        found, _ = measure_outlook(replace(subject, objective=loss), STANDARD, Expense(1, 1, 1, 1))
    assert found is not None
    assert (found.own.broke_at, found.own.steps, len(found.own.losses)) == (5, 5, 5)
    assert found.own.settled == ""
    assert (found.constant, found.least) == (2.0, None)
    assert found.reference is not None
    assert (found.reference.steps, found.reference.broke_at) == (200, None)


def test_a_first_loss_that_is_not_finite_leaves_no_losses() -> None:
    x = torch.full((4, 6), math.inf)
    found = seen_by(subject_of(mlp(), [(x, torch.zeros(4, 2))], recipe=Recipe("sgd", 0.01)))
    assert found.reference is not None
    for trial in (found.own, found.reference):
        assert (trial.broke_at, trial.steps, trial.losses) == (0, 0, ())


def test_a_loss_that_leaves_for_good_ends_it() -> None:
    torch.manual_seed(8)
    model, x = nn.Linear(1, 1, bias=False), torch.ones(4, 1)
    # each step multiplies the distance by 1 - 2 * lr = -1.2
    recipe = Recipe("sgd", 1.1, steps=400)
    own = seen_by(subject_of(model, [(x, 5 * x)], recipe=recipe)).own
    level = 1000.0  # times the first loss
    reached = next(
        t for t in range(10, 400, 10)
        if sum(1.44 ** (t - 1 - i) for i in range(t // 10)) / (t // 10) > level
    )  # fmt: skip
    assert (own.broke_at, own.settled) == (reached, "the loss left for good")
    assert own.steps == reached
    bounded = seen_by(subject_of(model, [(x, 5 * x)], recipe=replace(recipe, lr=0.9))).own
    assert (bounded.broke_at, bounded.settled, bounded.steps) == (None, "", 400)


def test_a_gradient_that_is_not_finite_ends_it() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return (self.weight.square() * x).sqrt()  # finite, its slope at zero is not

    own = seen_by(
        subject_of(Root(), [(torch.ones(4, 1), torch.ones(4, 1))], recipe=Recipe("sgd", 0.1))
    ).own
    assert own.broke_at == 1
    assert own.losses == (1.0,)


# --- how many steps


def test_no_more_steps_than_the_recipe_has() -> None:
    subject = subject_of(mlp(), regression(2), recipe=Recipe("sgd", 0.05, steps=26))
    found = seen_by(subject)
    assert (found.of, found.affordable, found.own.steps) == (26, 26, 26)
    assert found.reference is None  # 13 of the allowance are left, fewer than say anything
    longer = seen_by(replace(subject, recipe=Recipe("sgd", 0.05, steps=48)))
    assert longer.reference is not None
    assert (longer.own.steps, longer.reference.steps) == (48, 24)


def test_a_recipe_shorter_than_the_least_is_followed_to_its_end() -> None:
    found = seen_by(subject_of(mlp(), regression(1), recipe=Recipe("sgd", 0.05, steps=3)))
    assert (found.own.steps, found.reference) == (3, None)


def test_steps_are_counted_by_operations_and_the_allowance() -> None:
    torch.manual_seed(9)
    subject = subject_of(mlp(), regression(2), recipe=Recipe("sgd", 0.05, steps=10_000))
    expense = expense_of(subject)
    assert expense is not None
    assert expense_of(subject) == expense
    for steps in (30, 77):
        found = seen_by(subject, allowing(steps, expense))
        assert (found.affordable, found.own.steps) == (steps, steps)
        left = steps // 2
        assert (found.reference.steps if found.reference else 0) == (left if left >= LEAST else 0)
        assert seen_by(subject, allowing(steps, expense)) == found
    with borrowed(subject.model, training=True):  # type: ignore[arg-type]
        dear = Expense(expense.flops + 1e8, 10, 1, 4)
        half = measure_outlook(subject, allowing(60, dear), dear)[0]
    assert half is not None
    assert half.own.steps == 60


def test_steps_left_by_a_training_that_broke_go_to_the_steady_one() -> None:
    torch.manual_seed(9)
    model, x = nn.Linear(1, 1, bias=False), torch.ones(4, 1)
    found = few(subject_of(model, [(x, 5 * x)], recipe=Recipe("sgd", 1e30, steps=500)), 40)
    assert found.own.broke_at is not None
    assert found.reference is not None
    assert found.reference.steps == 60 - found.own.steps


@pytest.mark.parametrize(
    "user",
    [
        {"recipe": Recipe("sgd", 1e-6, steps=400, schedule="linear", momentum=0.9)},
        {
            "recipe": Recipe("custom", steps=400),
            "make_optimizer": lambda p: torch.optim.Rprop(p, lr=1e-9),
        },
    ],
)
def test_the_reference_is_steady_from_the_same_start(user: dict[str, Any]) -> None:
    torch.manual_seed(10)
    model, batches = with_dropout(), regression(2)
    steady = replace(STEADY, steps=400)
    state = torch.get_rng_state()
    losses = by_hand(model, batches, lambda p: torch.optim.AdamW(p, 1e-3), steady, 40)
    torch.set_rng_state(state)
    reference = few(subject_of(model, batches, **user), 80).reference
    assert reference is not None
    assert reference.losses == tuple(losses)
    assert (reference.optimizer, reference.lr, reference.steps) == ("adamw", 1e-3, 40)


# --- half precision


class Precisions(nn.Module):
    """Notes the precisions that its products come in, out of reach of what is put back."""

    seen: ClassVar[frozenset[torch.dtype]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        Precisions.seen |= {hidden.dtype}
        out: Tensor = self.second(hidden.tanh())
        return out.float()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32),
     (None, torch.float32)],
)  # fmt: skip
def test_the_recipes_precision(precision: str | None, dtype: torch.dtype) -> None:
    torch.manual_seed(11)
    recipe = Recipe("sgd", 0.1, steps=60, clip_norm=5.0, precision=precision)
    subject = subject_of(Precisions(), regression(4), recipe=recipe)
    Precisions.seen = frozenset()
    expense = Expense(1e4, 10, 5, 4)
    with borrowed(subject.model, training=True):  # type: ignore[arg-type]
        found, _ = measure_outlook(subject, allowing(30, expense), expense)
    assert found is not None
    assert found.reference is None
    assert Precisions.seen == {dtype}  # that of the looks as well
    assert found.own.end < 0.7 * found.own.start
    with borrowed(subject.model, training=True):  # type: ignore[arg-type]
        assert measure_outlook(subject, allowing(60, expense), expense)[0] is not None
    assert Precisions.seen == {dtype, torch.float32}  # the steady recipe's


def test_a_scaled_step_that_overflows_is_skipped() -> None:
    torch.manual_seed(12)
    model, batches = mlp(), regression(1)
    recipe = Recipe("sgd", 1e-5, steps=40, precision="fp16", clip_norm=1e9)
    # scaled by 2^16 a gradient of the weights beyond 1 overflows: a big loss needs a few halvings
    x, y = batches[0]
    own = seen_by(subject_of(model, [(x, 300 * y)], recipe=recipe)).own
    assert own.broke_at is None
    assert own.steps == 40
    assert own.losses[0] == own.losses[1]
    assert own.losses[-1] < own.losses[0]


def test_scaled_training_is_the_plain_one_but_for_rounding() -> None:
    torch.manual_seed(12)
    model, batches = mlp(), regression(2)
    recipe = Recipe("sgd", 0.05, steps=40, clip_norm=0.5)
    plain = seen_by(subject_of(model, batches, recipe=recipe)).own
    half = seen_by(subject_of(model, batches, recipe=replace(recipe, precision="fp16"))).own
    assert half.losses[-1] == pytest.approx(plain.losses[-1], rel=0.02)
    assert half.losses != plain.losses


@pytest.mark.parametrize("precision", ["bf16", None])
def test_weights_that_are_half_are_trained_as_they_are(precision: str | None) -> None:
    torch.manual_seed(13)
    model = mlp().bfloat16()
    batches = [(x.bfloat16(), y.bfloat16()) for x, y in regression(2)]
    recipe = Recipe("sgd", 0.05, steps=40, precision=precision)
    losses = by_hand(model, batches, lambda p: torch.optim.SGD(p, 0.05), recipe, 40)
    own = seen_by(subject_of(model, batches, recipe=recipe)).own
    assert own.losses == tuple(losses)


# --- where it is not measured


def test_there_must_be_something_to_train() -> None:
    recipe = Recipe("sgd", 0.1, steps=50)
    subject = subject_of(mlp(), regression(1), recipe=recipe)
    nothing = "there is no model, no data or no loss"
    for missing in ({"batches": ()}, {"objective": None}):
        assert why_not(replace(subject, **missing)) == nothing  # type: ignore[arg-type]
    found, (gap,) = measure_outlook(replace(subject, model=None), STANDARD, None)
    assert (found, gap.why) == (None, nothing)
    frozen = mlp().requires_grad_(False)
    assert why_not(replace(subject, model=frozen)) == "no parameter is trainable"


def test_a_step_that_is_too_large_is_a_reason() -> None:
    subject = subject_of(mlp(), regression(1), recipe=Recipe("sgd", 0.1, steps=500))
    expense = expense_of(subject)
    assert expense is not None
    why = "a step is too large for more of them than the rehearsal takes"
    assert why_not(subject, allowing(LEAST - 1, expense)) == why
    assert seen_by(subject, allowing(LEAST, expense)).own.steps == LEAST
    assert why_not(subject, Settings(effort="quick")) == why


def test_an_optimizer_that_takes_no_single_steps_is_a_reason() -> None:
    recipe = Recipe("lbfgs", steps=50)
    subject = subject_of(mlp(), regression(1), recipe=recipe)
    subject = replace(subject, make_optimizer=lambda p: torch.optim.LBFGS(p, lr=0.1))
    assert why_not(subject) == "LBFGS evaluates the loss several times a step"


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 8, sparse=True), nn.Linear(8, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.table(tokens).mean(1))
        return out


def test_sparse_gradients_have_no_steady_reference() -> None:
    torch.manual_seed(14)
    batches = [(torch.randint(0, 20, (6, 5)), torch.randn(6, 1))]
    subject = subject_of(Bag(), batches, recipe=Recipe("sgd", 0.1, steps=60))
    found = seen_by(subject)
    assert found.own.end < found.own.start
    assert found.reference is None
    adam = replace(subject, recipe=Recipe("adam", 1e-3, steps=60))
    assert why_not(adam).startswith("Adam takes no sparse gradients")


def test_a_loss_that_nothing_trainable_reaches_stays() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return x * 0.5

    x = torch.ones(4, 2)
    own = seen_by(subject_of(Apart(), [(x, x)], recipe=Recipe("sgd", 0.1, steps=30))).own
    assert own.losses == (0.25,) * 30


# --- what a step costs


def test_products_are_counted() -> None:
    subject = subject_of(mlp(6, 16, 2), regression(1, size=16))
    found = expense_of(subject)
    assert found is not None
    assert found.flops == 2 * 16 * (6 * 16 + 16 * 2)
    assert (found.calls, found.tensors) == (4, 4)
    assert found.operations >= 4
    assert found.cheap
    assert is_cheap(subject)


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (nn.Conv2d(3, 8, 3), (2, 3, 10, 10), 2 * 2 * 8 * 3 * 9 * 64),
        (nn.Linear(5, 7), (4, 5), 2 * 4 * 5 * 7),
    ],
)
def test_flops_of_layers(layer: nn.Module, shape: tuple[int, ...], flops: int) -> None:
    x = torch.ones(shape)
    found = expense_of(subject_of(layer, [(x, layer(x).detach())]))
    assert found is not None
    assert found.flops == flops


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_every_recurrent_weight_meets_every_step(kind: type[nn.RNNBase]) -> None:
    gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(5, 6, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.rnn(x)[0]
            return out

    x = torch.ones(3, 11, 5)
    found = expense_of(subject_of(Net(), [(x, torch.zeros(3, 11, 6))]))
    assert found is not None
    assert found.flops == 2 * 3 * 11 * gates * 6 * (5 + 6)


def test_cheap_is_little_work_in_few_calls() -> None:
    cheap = Expense(5e7 / 3, 10, 200, 4)
    assert cheap.cheap
    assert not replace(cheap, flops=5.1e7 / 3).cheap
    assert not replace(cheap, calls=201).cheap


def test_every_part_of_a_step_has_its_price() -> None:
    one = Expense(1e6, 10, 5, 4)
    for part in ("flops", "operations", "tensors"):
        assert replace(one, **{part: 2 * getattr(one, part)}).seconds > one.seconds
    assert Expense(0, 0, 0, 0).seconds == pytest.approx(3e-4)
    assert Expense(1.5e10, 0, 0, 0).seconds == pytest.approx(1.0003)


def test_counting_leaves_no_trace_also_where_it_raises() -> None:
    torch.manual_seed(15)
    model, state = with_dropout(), torch.get_rng_state()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hooks = torch.nn.modules.module._global_forward_pre_hooks
    kept = dict(hooks)
    subject = subject_of(model, regression(1))
    state = torch.get_rng_state()
    expense_of(subject)
    with pytest.raises(ModelError, match="forward pass raised"):
        expense_of(subject_of(model, [(torch.ones(2, 3), torch.ones(2, 2))]))
    assert dict(hooks) == kept
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert expense_of(replace(subject, model=None)) is None
    assert not is_cheap(replace(subject, batches=()))
