"""Collapsed attention is mended by the code as a person would paste it, and measured again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradaudit.probes.attention import measure_attention
from gradaudit.records import Measurements
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests.remedies.pasted import ids, paste, remedy
from tests.rules.literal import FLAT, TRAINED, attention, measurements, module
from tests.subjects import opened


class Net(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(16, 4, batch_first=True, **options)  # type: ignore[arg-type]
        nn.init.normal_(self.mix.in_proj_bias)
        with torch.no_grad():
            for weight in (self.mix.in_proj_weight, self.mix.q_proj_weight, self.mix.k_proj_weight):
                if weight is not None:
                    weight[:32] *= 12.0

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, x, x)[0]  # type: ignore[no-any-return]


def seen(model: nn.Module) -> Measurements:
    torch.manual_seed(1)
    with borrowed(model, training=True):
        rows, missing = measure_attention(opened(model, torch.randn(8, 32, 16)), Settings())
    assert missing == ()
    kinds = (module("mix", "MultiheadAttention"),)
    return measurements(attention=rows, modules=kinds, rehearsal=FLAT)


@pytest.mark.parametrize("options", [{}, {"vdim": 16, "kdim": 16}])
def test_smaller_queries_and_keys(options: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = Net(**options)
    before = seen(model)
    assert [finding.code for finding in run_rules(before, Settings())] == ["GA403"]
    value = model.mix.in_proj_bias[32:].clone()
    paste(remedy(before, "attention-scale").code, model=model)
    after = seen(model)
    assert run_rules(after, Settings()) == ()
    assert after.attention[0].largest_logit == pytest.approx(3.0, rel=1e-3)
    assert torch.equal(model.mix.in_proj_bias[32:], value)


def test_attention_of_ones_own_is_shown_a_norm() -> None:
    rows = (attention(0.0, module="a", largest_logit=90.0),)
    own = measurements(attention=rows, modules=(module("a", "MyAttention"),), rehearsal=FLAT)
    assert ids(own)[0] == "attention-norm"
    made = remedy(own, "attention-norm")
    assert made.safety == "changes architecture: shown, not applied"
    norm = paste(made.code)["NormalisedAttention"](32)
    q = 1e4 * torch.randn(2, 4, 32, 8)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x, x, x)  # type: ignore[no-any-return]

    with borrowed(norm, training=True):
        (row,), _ = measure_attention(opened(Wrapped(), q), Settings())
    assert row.largest_logit == pytest.approx(float(norm.scale.detach()), rel=1e-5)


def test_learned_weights_are_left_alone() -> None:
    rows = (attention(0.0, largest_logit=90.0),)
    assert "attention-scale" not in ids(measurements(attention=rows, state=TRAINED))
