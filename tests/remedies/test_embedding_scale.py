"""Embeddings of N(0, 1) times sqrt(width): found, shrunk as a person would paste it, measured."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradaudit
from gradaudit.records import Report
from tests.remedies.pasted import BY_CAUSE, ids, paste
from tests.rules.literal import (
    FLAT,
    TRAINED,
    attention,
    loss,
    measurements,
    module,
    stage,
    weight,
)

WIDTH, WORDS, CONTEXT = 64, 400, 16


class Words(nn.Module):
    """Post-norm layers on embeddings as in Vaswani et al., but drawn as torch draws them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        made = nn.TransformerEncoderLayer(WIDTH, 4, WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(made, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.layers(self.words(x) * math.sqrt(WIDTH))
        return self.head(mixed).transpose(1, 2)


def audited(model: nn.Module, x: Tensor, y: Tensor) -> Report:
    return gradaudit.audit(
        model,
        (x, y),
        loss="cross_entropy",
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        settings=BY_CAUSE,
    )


def test_embeddings_that_close_attention_are_shrunk_and_not_its_weights() -> None:
    torch.manual_seed(0)
    x = torch.randint(1, WORDS, (64, CONTEXT))
    y = x.flip(1)
    model = Words()
    report = audited(model, x, y)
    assert "GA403" in {finding.code for finding in report.findings}
    assert report.prescription is not None
    found = {each.id: each for each in report.prescription.remedies}
    assert "embedding-scale" in found
    assert "attention-scale" not in found
    paste(found["embedding-scale"].code, model=model)
    table = model.words.weight.detach()
    assert float(table.square().mean().sqrt()) == pytest.approx(1 / math.sqrt(WIDTH), rel=1e-3)
    assert (table[0] == 0).all()
    assert "GA403" not in {finding.code for finding in audited(model, x, y).findings}


def sown(**changes: object) -> object:
    """A table of N(0, 1) and a first attention that looks at one key, with nothing between."""
    seen = {
        "attention": (attention(0.0, largest_logit=90.0),),
        "modules": (module("words", "Embedding"), module("mix", "MultiheadAttention")),
        "weights": (
            weight(0, 64.0, parameter="words.weight", module="words", kind="embedding"),
            weight(1, 1.0, parameter="mix.in_proj_weight", module="mix"),
        ),
        "rehearsal": FLAT,
    }
    return measurements(**{**seen, **changes})


def test_other_causes_are_left_to_their_remedies() -> None:
    assert "embedding-scale" in ids(sown())
    table, own = sown().weights
    large = weight(1, 100.0, parameter="mix.in_proj_weight", module="mix")
    small = weight(0, 0.03, parameter="words.weight", module="words", kind="embedding")
    norm = (module("words", "Embedding"), module("n", "LayerNorm"), sown().modules[1])
    for changes in (
        {"weights": (table, large)},  # the weights of queries and keys explain it
        {"weights": (small, own)},
        {"modules": norm},  # scale does not pass a norm
        {"state": TRAINED},
    ):
        assert "embedding-scale" not in ids(sown(**changes)), changes


def test_a_loss_that_starts_off_by_the_embeddings_is_not_blamed_on_the_head() -> None:
    rows = (
        weight(0, 64.0, parameter="words.weight", module="words", kind="embedding"),
        weight(1, 1.0),
    )
    stages = (
        stage(0, output_rms=8.0, parameters=("words.weight",)),
        stage(1, role="head", parameters=("layers.1.weight",)),
    )
    seen = measurements(loss=loss(initial=30.0), stages=stages, weights=rows, rehearsal=FLAT)
    assert ids(seen) == ["embedding-scale"]
    tied = (stages[0], stage(1, role="head", parameters=("words.weight",)))
    tied_seen = measurements(loss=loss(initial=30.0), stages=tied, weights=rows, rehearsal=FLAT)
    assert ids(tied_seen) == ["head-scale"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(100, 256), nn.LayerNorm(256)
        self.mix = nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.mix(self.words(x)))
        return F.linear(hidden, self.words.weight).transpose(1, 2)


def test_a_table_tied_to_the_output_is_drawn_for_the_output() -> None:
    torch.manual_seed(0)
    x = torch.randint(100, (64, 8))
    model = Tied()
    report = audited(model, x, x.roll(1, 1))
    assert "GA503" in {finding.code for finding in report.findings}
    assert report.prescription is not None
    found = {each.id: each for each in report.prescription.remedies}
    paste(found["head-scale"].code, model=model)
    assert float(model.words.weight.detach().std()) == pytest.approx(0.3 / 16, rel=0.05)
    assert float(F.cross_entropy(model(x), x.roll(1, 1)).detach()) < 1.1 * math.log(100)
