"""Pre-norm and normalisation layers: when they are shown, and that their code runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.records import Recipe
from gradaudit.remedies._post_norm import post_norm_stages, sublayers
from gradaudit.settings import Settings
from tests.remedies.pasted import ids, log10_growth, paste, plain_net, remedy, weight_rows
from tests.remedies.test_warm_up import RESCUED, post_norm
from tests.rules.literal import FLAT, chain, measurements, module, stage

HOT = Recipe("adam", 1e-2)


def test_a_deep_post_norm_net_is_shown_norms_before_the_branches() -> None:
    seen = measurements(recipe=HOT, rehearsal=RESCUED, **post_norm(6))
    assert ids(seen) == ["learning-rate", "warm-up", "pre-norm"]
    made = remedy(seen, "pre-norm")
    assert made.safety == "changes architecture: shown, not applied"
    assert made.parameters == {"alpha": 1.861, "beta": 0.3799, "sublayers": 12}  # N = 6
    names = paste(made.code)
    x = 3 + torch.randn(4, 8)
    assert names["PreNorm"](nn.Linear(8, 8), 8)(x).shape == x.shape
    assert float(names["DeepNorm"](nn.Linear(8, 8), 8)(x).mean().detach()) == pytest.approx(
        0.0, abs=1e-5
    )
    drawn = torch.empty(200, 200)
    names["draw"](drawn, True)
    assert float(drawn.std()) * 200**0.5 == pytest.approx(0.3799, rel=0.02)


def test_a_shallow_or_pre_norm_net_is_not() -> None:
    seen = measurements(recipe=HOT, rehearsal=RESCUED, **post_norm(5))
    assert "pre-norm" not in ids(seen)
    before = post_norm(6)
    before["stages"] = tuple(replace(s, output_rms=1.7) for s in before["stages"])
    assert "pre-norm" not in ids(measurements(recipe=HOT, rehearsal=RESCUED, **before))
    assert "pre-norm" not in ids(measurements(recipe=HOT, **post_norm(6)))


def test_growth_of_a_post_norm_net_is_not_told_to_add_the_skips_it_has() -> None:
    blocks = post_norm(20)
    seen = measurements(
        **{**chain(10.0), **blocks},
        rehearsal=FLAT,
    )
    assert ids(seen) == ["pre-norm"]


class Lines(nn.Module):
    """A transformer of torch's own layers."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        made = nn.TransformerEncoderLayer(
            16, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.enter, self.leave = nn.Linear(4, 16), nn.Linear(16, 3)
        self.layers = nn.TransformerEncoder(made, 3, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leave(self.layers(self.enter(x))[:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("norm_first", [False, True])
def test_where_the_norm_is_is_told_by_what_leaves_a_block(norm_first: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 5, 4)
    net = Lines(norm_first=norm_first)
    y = torch.randint(3, (32,))
    settings = Settings(effort="quick", threads=1)
    seen = gradaudit.audit(net, (x, y), loss="cross_entropy", settings=settings).measurements
    assert len(post_norm_stages(seen)) == (0 if norm_first else 3)
    assert sublayers(seen) == (0 if norm_first else 6)


def test_a_plain_net_that_no_start_values_mend_is_shown_norms_and_skips() -> None:
    torch.manual_seed(0)
    model = plain_net(nn.Tanh)
    names = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    rows = tuple(replace(row, rms=64**-0.5) for row in weight_rows(model, "Tanh"))
    stages = tuple(
        stage(i, 0.1, modules=(name,), role="head" if i == 19 else "interior" if i else "inlet")
        for i, name in enumerate(names)
    )
    seen = measurements(**{**chain(0.1, 19), "stages": stages}, weights=rows, rehearsal=FLAT)
    assert ids(seen) == ["normalisation", "skip-connections"]
    for layer in model[::2]:
        with torch.no_grad():
            layer.weight.mul_(0.3)
    before = log10_growth(model, 64)
    model.float()
    made = remedy(seen, "normalisation")
    assert made.parameters["layers"] == tuple(names[:-1])
    paste(made.code, model=model)
    assert before < -15 < -8 < log10_growth(model, 64)
    normed = (module(names[1], "LayerNorm"),)
    assert ids(replace(seen, modules=normed)) == ["skip-connections"]


def test_convolutions_get_a_norm_over_channels() -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)))
    rows = tuple(replace(row, rms=27**-0.5) for row in weight_rows(net, ""))
    stages = tuple(stage(i, 0.1, modules=(str(i),)) for i in range(5))
    seen = measurements(**{**chain(0.01, 4), "stages": stages}, weights=rows, rehearsal=FLAT)
    paste(remedy(seen, "normalisation").code, model=net)
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 3, 8, 8)
    assert isinstance(net[0][1], nn.GroupNorm)
