import math
from typing import Any

import pytest
import torch

from gradaudit.probes.stability import Stability, stability_of
from gradaudit.records import Estimate, NotMeasured

Made = tuple[type[torch.optim.Optimizer], dict[str, Any]]
SGD, ADAM, ADAMW, RMSPROP = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop,
)  # fmt: skip
RATE = 0.03

PLAIN: dict[str, Made] = {
    "descent": (SGD, {}),
    "descent, decay": (SGD, {"weight_decay": 2.0}),
    "heavy ball": (SGD, {"momentum": 0.9}),
    "heavy ball, dampening": (SGD, {"momentum": 0.9, "dampening": 0.5}),
    "heavy ball, dampening, decay": (
        SGD, {"momentum": 0.7, "dampening": 0.9, "weight_decay": 2.0},
    ),
    "Nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
    "Nesterov, decay": (SGD, {"momentum": 0.5, "nesterov": True, "weight_decay": 2.0}),
}  # fmt: skip
ADAPTIVE: dict[str, Made] = {
    "Adam": (ADAM, {}),
    "Adam, betas": (ADAM, {"betas": (0.5, 0.99)}),
    "Adam, coupled decay": (ADAM, {"weight_decay": 3.0}),
    "AdamW": (ADAMW, {"weight_decay": 0.0}),
    "AdamW, decay": (ADAMW, {"weight_decay": 4.0}),
    "AdamW, betas, decay": (ADAMW, {"betas": (0.6, 0.99), "weight_decay": 4.0}),
    "RMSprop": (RMSPROP, {}),
    "RMSprop, momentum": (RMSPROP, {"momentum": 0.8}),
    "RMSprop, momentum, decay": (RMSPROP, {"momentum": 0.8, "weight_decay": 3.0}),
}


def condition(made: Made) -> Stability:
    kind, options = made
    found = stability_of(kind([torch.zeros(1)], lr=RATE, **options))
    assert isinstance(found, Stability), found
    return found


def grows(made: Made, eigenvalue: float, root: float | None = None, steps: int = 3800) -> bool:
    """Whether torch's own optimizer leaves the bottom of ``eigenvalue x^2 / 2``, or comes back.

    ``root`` is where the root of the second moment stands, as for an optimizer at rest on a loss
    whose gradients keep their spread: eps stands in for it, beside gradients that are next to none.
    """
    kind, options = made
    start = 1.0
    if root is not None:
        options, start = {**options, "eps": root}, 1e-60
    w = torch.full((1,), start, dtype=torch.float64)
    optimizer = kind([w], lr=RATE, **options)
    for step in range(steps):
        if step == 200:  # until then at rest, for the bias correction to fade
            w.fill_(start)
        w.grad = (eigenvalue if step >= 200 else 0.0) * w
        optimizer.step()
        size = abs(float(w))
        if size > 1e3 * start:
            return True
    assert size < start
    return False


@pytest.mark.parametrize("name", PLAIN)
def test_torch_itself_is_stable_below_the_ceiling_and_not_above(name: str) -> None:
    found = condition(PLAIN[name])
    ceiling = found.ceiling(RATE)
    assert not found.second_moment
    assert ceiling.low == ceiling.high == ceiling.value > 0
    assert not grows(PLAIN[name], 0.999 * ceiling.value)
    assert grows(PLAIN[name], 1.001 * ceiling.value)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_torch_itself_is_stable_below_the_preconditioned_ceiling(name: str) -> None:
    found = condition(ADAPTIVE[name])
    root = 0.25
    # a decay through the gradient belongs to the Hessian, and is divided with it
    eigenvalue = found.ceiling(RATE).value * root - found.penalty
    assert found.second_moment
    assert not grows(ADAPTIVE[name], 0.999 * eigenvalue, root)
    assert grows(ADAPTIVE[name], 1.001 * eigenvalue, root)


@pytest.mark.parametrize("name", [*PLAIN, *ADAPTIVE])
def test_the_two_readings_of_the_condition_agree(name: str) -> None:
    found = condition((PLAIN | ADAPTIVE)[name])
    ceiling = found.ceiling(RATE)
    back = found.rate_ceiling(ceiling)
    assert isinstance(back, Estimate)
    assert [back.value, back.low, back.high] == pytest.approx([RATE] * 3)


def test_known_ceilings() -> None:
    for made, expected in (
        (PLAIN["descent"], 2 / RATE),
        (PLAIN["heavy ball"], 3.8 / RATE),
        (PLAIN["Nesterov"], 3.8 / 2.8 / RATE),
        (ADAPTIVE["Adam"], 38 / RATE),
        (ADAPTIVE["RMSprop"], 2 / RATE),
    ):
        assert condition(made).ceiling(RATE).value == pytest.approx(expected)


def test_the_rate_turns_the_interval_around() -> None:
    found = condition(PLAIN["descent"])
    rate = found.rate_ceiling(Estimate(4.0, 2.0, 8.0, "curvature"))
    assert rate == Estimate(0.5, 0.25, 1.0, "learning rate")
    open_end = found.rate_ceiling(Estimate(4.0, -1.0, None, "curvature"))
    assert open_end == Estimate(0.5, None, None, "learning rate")


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_no_rate_is_forbidden_by_a_curvature_that_is_not_positive(value: float) -> None:
    found = condition(PLAIN["descent"]).rate_ceiling(Estimate.exact(value, "curvature"))
    assert isinstance(found, NotMeasured)
    assert "none forbids a rate" in found.why


class Lookalike(torch.optim.SGD):
    pass


Lookalike.__name__ = "SGD"


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        (torch.optim.Adagrad([torch.zeros(1)]), "Adagrad"),
        (Lookalike([torch.zeros(1)], lr=0.1), "SGD"),
        (RMSPROP([torch.zeros(1)], centered=True), "centered"),
        (SGD([torch.zeros(1)], lr=0.1, maximize=True), "climbs"),
        (SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 1.0}], 0.1), "lr"),
    ],
)
def test_what_has_no_ceiling_says_why(optimizer: torch.optim.Optimizer, why: str) -> None:
    found = stability_of(optimizer)
    assert isinstance(found, NotMeasured)
    assert why in found.why
    assert found.what == "curvature ceiling"


def test_groups_may_differ_in_decay_and_rates_may_be_tensors() -> None:
    groups = [{"params": [torch.zeros(1)], "weight_decay": d} for d in (0.0, 2.0)]
    found = stability_of(SGD(groups, lr=0.1))
    assert isinstance(found, Stability)
    assert found.decay == 2.0
    tensor = stability_of(ADAM([torch.zeros(1)], lr=torch.tensor(1e-3)))
    assert isinstance(tensor, Stability)
    assert math.isclose(tensor.gain, 0.1)
