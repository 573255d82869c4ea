"""What the recorder writes down where a model is unusual, and norms beyond the usual range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.trace import joint_norm, l2_norm, record


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_norms_of_float64_are_right_where_its_squares_are_not(scale: float) -> None:
    tensor = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = math.hypot(*tensor.flatten().tolist()) * scale
    assert float(l2_norm(tensor * scale)) == pytest.approx(truth, rel=1e-13)
    assert joint_norm([tensor * scale] * 4) == pytest.approx(2 * truth, rel=1e-13)


def test_norms_of_nothing_and_of_what_is_no_number() -> None:
    assert joint_norm([]) == 0.0
    assert float(l2_norm(torch.zeros(3))) == 0.0
    assert float(l2_norm(torch.tensor([1.0, -math.inf]))) == math.inf
    assert math.isnan(joint_norm([torch.ones(2), torch.tensor([math.nan])]))


class Refusing(nn.Module):
    """Calls a layer inside, then gives up."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.inner(x)
        raise NotImplementedError


class Falling(nn.Module):
    """Tries one way and, where that fails, takes another."""

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.plain = Refusing(), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.fast(x)
        except NotImplementedError:
            return self.plain(x).exp()


def test_a_module_whose_failure_is_caught_has_ended() -> None:
    model = Falling()
    trace = record(model, lambda: model(torch.randn(4, 3)))
    parents = {c.module: c.parent.module if c.parent else None for c in trace.calls}
    assert parents == {"": None, "fast": "", "fast.inner": "fast", "plain": ""}
    exp = next(op for op in trace.ops if op.name == "exp")
    assert exp.call is not None
    assert exp.call.module == ""
    failed = next(call for call in trace.calls if call.module == "fast")
    assert failed.last == next(c for c in trace.calls if c.module == "fast.inner").last
