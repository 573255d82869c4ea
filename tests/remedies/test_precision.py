"""Remedies for half precision: prescribed for what they mend, and their code run for real."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradaudit.records import Recipe
from tests.probes.lossy import mlp, regression
from tests.remedies.pasted import ids, paste, prescription, remedy
from tests.rules.literal import MADE_UP, estimate
from tests.rules.test_precision import LOST, OVERFLOW, STILL, seen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["loss-scale"]),
        (LOST, ["loss-scale"]),
        (OVERFLOW, ["bfloat16"]),
        ({**OVERFLOW, **LOST}, ["bfloat16"]),
        ({**OVERFLOW, "overflow_spreads": False}, ["loss-scale"]),
        ({**LOST, "underflow_scaled": estimate(0.2)}, ["bfloat16"]),
        ({"largest_gradient": 1e6, "scale": 2.0**-8}, ["loss-scale"]),
        ({"scale": None}, []),
        ({"sample": MADE_UP}, []),
        ({"weights": "float16", "eps": 1e-8, "eps_flushed": True}, ["adam-eps"]),
        ({"weights": "float16", **LOST}, ["bfloat16"]),
        ({"asked": "bf16", "weights": "bfloat16", **STILL}, ["float32-weights"]),
        ({"asked": "bf16", **STILL}, []),
        ({"asked": None, **LOST, **OVERFLOW}, []),
    ],
)
def test_each_fault_has_its_remedy(changes: dict[str, Any], expected: list[str]) -> None:
    assert ids(seen(**changes)) == expected


def test_the_recipe_carries_scale_and_eps() -> None:
    recipe = prescription(seen(**LOST)).recipe
    assert recipe is not None
    assert (recipe["loss_scale"], recipe["eps"]) == (4096.0, None)
    recipe = prescription(seen(weights="float16", eps=1e-8, eps_flushed=True)).recipe
    assert recipe is not None
    assert (recipe["loss_scale"], recipe["eps"]) == (None, 1e-4)
    bf16 = remedy(seen(**OVERFLOW), "bfloat16")
    assert bf16.parameters == {"precision": "bf16"}


def test_the_scaled_step_takes_the_step_that_float32_takes() -> None:
    torch.manual_seed(0)
    model, plain = mlp(), mlp()
    plain.load_state_dict(model.state_dict())
    x, y = regression()[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    code = remedy(seen(scale=2.0**14), "loss-scale").code
    names = paste(code, model=model, optimizer=optimizer)
    assert names["scaler"].get_scale() == 2.0**14
    loss = names["training_step"](x, y, F.mse_loss)
    F.mse_loss(plain(x), y).backward()
    torch.optim.SGD(plain.parameters(), lr=0.1).step()
    assert bool(loss.isfinite())
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)


def test_the_norm_is_clipped_after_it_was_unscaled() -> None:
    torch.manual_seed(1)
    model, (x, y) = mlp(), regression()[0]
    before = [p.detach().clone() for p in model.parameters()]
    found = seen(scale=2.0**12)
    found = type(found)(
        **{**vars(found), "recipe": Recipe("sgd", 1.0, clip_norm=0.01, precision="fp16")}
    )
    code = remedy(found, "loss-scale").code
    assert (
        code.index("unscale_(optimizer)") < code.index("clip_grad_norm_") < code.index("step(opt")
    )
    names = paste(code, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    names["training_step"](x, y, F.mse_loss)
    steps = [p.detach() - old for p, old in zip(model.parameters(), before, strict=True)]
    # Clipped before unscale_, as in the field's case, the step would be 4096 times shorter.
    assert math.hypot(*(float(s.norm()) for s in steps)) == pytest.approx(0.01, rel=1e-3)


class Squares(nn.Module):
    """Overflows in fp16: 300 squared."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 2)
        nn.init.constant_(self.dense.bias, 300.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x).square()


def test_bf16_trains_what_overflows_in_fp16() -> None:
    torch.manual_seed(2)
    x, y = regression()[0]
    with torch.autocast("cpu", torch.float16):
        assert not F.mse_loss(Squares()(x), y).isfinite()
    model = Squares()
    names = paste(remedy(seen(**OVERFLOW), "bfloat16").code, model=model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    losses = [float(names["training_step"](optimizer, x, y, F.mse_loss)) for _ in range(5)]
    assert losses[-1] < losses[0] < math.inf


def test_float32_weights_take_the_small_updates_that_bf16_weights_lose() -> None:
    torch.manual_seed(3)
    model, (x, y) = mlp().bfloat16(), regression()[0]
    kept = [p.detach().clone() for p in model.parameters()]
    F.mse_loss(model(x.bfloat16()), y.bfloat16()).backward()
    torch.optim.Adam(model.parameters(), lr=1e-6).step()
    lost = seen("bf16", weights="bfloat16", **STILL)
    still = [
        bool((p == old).float().mean() > 0.9)
        for p, old in zip(model.parameters(), kept, strict=True)
    ]
    assert all(still)
    names = paste(remedy(lost, "float32-weights").code, model=model)
    start = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    names["training_step"](optimizer, x, y, F.mse_loss)
    for parameter, old in zip(model.parameters(), start, strict=True):
        assert parameter.dtype is torch.float32
        assert bool((parameter != old).float().mean() > 0.9)


def test_the_eps_given_keeps_a_real_fp16_step_finite() -> None:
    torch.manual_seed(4)
    model, (x, y) = mlp().half(), regression()[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    paste(
        remedy(seen(weights="float16", eps=1e-8, eps_flushed=True), "adam-eps").code,
        optimizer=optimizer,
    )
    F.mse_loss(model(x.half()), y.half()).backward()
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in model.parameters())
