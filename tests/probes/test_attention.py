"""Attention entropy against loops over queries and keys in float64, however it is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel

from gradaudit.probes import _attention_looks
from gradaudit.probes.attention import measure_attention
from gradaudit.records import AttentionRow, NotMeasured
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests import reference
from tests.subjects import opened

SAMPLES, HEADS, QUERIES, WIDTH = 3, 2, 6, 5
FULL = torch.ones(QUERIES, QUERIES, dtype=torch.bool)
CAUSAL = FULL.tril()


def rows_of(model: nn.Module, *inputs: object) -> list[AttentionRow]:
    rows, missing = found(model, *inputs)
    assert missing == ()
    return list(rows)


def found(
    model: nn.Module, *inputs: object, training: bool = True
) -> tuple[tuple[AttentionRow, ...], tuple[NotMeasured, ...]]:
    with borrowed(model, training=training):
        return measure_attention(opened(model, *inputs), Settings())


def shares(q: Tensor, k: Tensor, allowed: Tensor, scale: float) -> np.ndarray:
    """[samples, heads, queries] by the slow reference."""
    allowed = allowed.expand(*q.shape[:3], k.shape[2])
    return np.array(
        [
            [
                reference.attention_entropies(
                    q[b, h].double().numpy(), k[b, h].double().numpy(), allowed[b, h].numpy(), scale
                )
                for h in range(q.shape[1])
            ]
            for b in range(q.shape[0])
        ]
    )


def check(row: AttentionRow, truth: np.ndarray) -> None:
    """The row against [samples, heads, queries] shares."""
    by_head = np.nanmean(truth, axis=2)
    assert row.entropy is not None
    assert row.entropy.value == pytest.approx(by_head.mean(), abs=2e-6)
    assert row.lowest_head == int(by_head.mean(axis=0).argmin())
    assert row.lowest_entropy == pytest.approx(by_head.mean(axis=0).min(), abs=2e-6)
    assert row.entropy.low == row.entropy.value == row.entropy.high


class Function(nn.Module):
    """Attention by a function of q, k, v; the weight makes it a model."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.eye(WIDTH))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.function(q, k, v) @ self.weight


def qkv(scale: float = 1.0, keys: int = QUERIES) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q = scale * torch.randn(SAMPLES, HEADS, QUERIES, WIDTH)
    return q, torch.randn(SAMPLES, HEADS, keys, WIDTH), torch.randn(SAMPLES, HEADS, keys, WIDTH)


def scores(q: Tensor, k: Tensor, allowed: Tensor = FULL, value: float = -torch.inf) -> Tensor:
    return (q @ k.mT / WIDTH**0.5).masked_fill(~allowed, value)


def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.dropout(scores(q, k).softmax(-1), 0.5) @ v


WAYS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Tensor]] = {
    "fused": (F.scaled_dot_product_attention, FULL),
    "fused, causal": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        CAUSAL,
    ),
    "fused, bool mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=CAUSAL),
        CAUSAL,
    ),
    "fused, -1e9 mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=-1e9 * (~CAUSAL).float()),
        CAUSAL,
    ),
    "math, dropout": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1), FULL),
    "by hand": (lambda q, k, v: scores(q, k).softmax(-1) @ v, FULL),
    "by hand, causal": (lambda q, k, v: scores(q, k, CAUSAL).softmax(-1) @ v, CAUSAL),
    "by hand, -1e4": (lambda q, k, v: scores(q, k, CAUSAL, -1e4).softmax(-1) @ v, CAUSAL),
    "by hand, smallest float": (
        lambda q, k, v: scores(q, k, CAUSAL, torch.finfo(torch.float32).min).softmax(-1) @ v,
        CAUSAL,
    ),
    "dropped": (dropped, FULL),
    "einsum": (
        lambda q, k, v: torch.einsum(
            "bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q / WIDTH**0.5, k).softmax(-1), v
        ),
        FULL,
    ),
    "weights on the right": (
        lambda q, k, v: (v.mT @ (k @ q.mT / WIDTH**0.5).softmax(-2)).mT,
        FULL,
    ),
    "checkpointed": (
        lambda q, k, v: checkpoint(F.scaled_dot_product_attention, q, k, v, use_reentrant=False),
        FULL,
    ),
}


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_computing_it_gives_the_reference(way: str, scale: float) -> None:
    function, allowed = WAYS[way]
    q, k, v = qkv(scale)
    (row,) = rows_of(Function(function), q, k, v)
    check(row, shares(q, k, allowed, WIDTH**-0.5))
    assert (row.module, row.call, row.heads) == ("", 0, HEADS)
    assert (row.queries, row.keys, row.masked_queries) == (QUERIES, QUERIES, 0)
    logits = (q.double() @ k.double().mT / WIDTH**0.5).masked_fill(~allowed, 0.0)
    assert row.largest_logit == pytest.approx(float(logits.abs().max()), rel=1e-5)


def test_pieces_of_a_long_sequence_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = qkv()
    for way in ("fused, causal", "fused, -1e9 mask", "by hand, causal"):
        whole = rows_of(Function(WAYS[way][0]), q, k, v)
        monkeypatch.setattr(_attention_looks, "_CHUNK", 50)
        (pieces,) = rows_of(Function(WAYS[way][0]), q, k, v)
        monkeypatch.undo()
        assert pieces.entropy is not None
        check(pieces, shares(q, k, CAUSAL, WIDTH**-0.5))
        assert pieces.largest_logit == pytest.approx(whole[0].largest_logit)


def test_scale_cross_attention_and_grouped_queries() -> None:
    q, k, v = qkv(keys=9)
    k, v = k[:, :1], v[:, :1]

    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=0.7, enable_gqa=True)

    (row,) = rows_of(Function(grouped), q, k, v)
    assert (row.queries, row.keys, row.heads) == (QUERIES, 9, HEADS)
    allowed = torch.ones(QUERIES, 9, dtype=torch.bool)
    check(row, shares(q, k.expand(-1, HEADS, -1, -1), allowed, 0.7))


class Encoder(nn.Module):
    def __init__(self, batch_first: bool, layers: int = 2) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.layers(x, src_key_padding_mask=padding)  # type: ignore[no-any-return]


def heads_of(layer: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys [batch, heads, time, width] of ``x`` [batch, time, width], in float64."""
    assert layer.in_proj_weight is not None
    projected = x.double() @ layer.in_proj_weight.double().T + layer.in_proj_bias.double()
    q, k, _ = projected.detach().chunk(3, dim=-1)
    split = (*x.shape[:2], layer.num_heads, layer.head_dim)
    return q.view(split).transpose(1, 2), k.view(split).transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_encoder_layers_with_padding(batch_first: bool, training: bool) -> None:
    torch.manual_seed(0)
    model, x = Encoder(batch_first), torch.randn(4, 7, 8)
    padding = torch.arange(7)[None] >= torch.tensor([7, 5, 3, 2])[:, None]
    given = x if batch_first else x.transpose(0, 1)
    rows, missing = found(model, given, padding, training=training)
    assert missing == ()
    assert [row.module for row in rows] == [f"layers.layers.{i}.self_attn" for i in range(2)]
    q, k = heads_of(model.layers.layers[0].self_attn, x)
    check(rows[0], shares(q, k, ~padding[:, None, None], 0.5))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_multihead_attention_with_and_without_weights(need_weights: bool, batched: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.MultiheadAttention(8, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            first = self.mix(x, x, x, need_weights=need_weights)[0]
            return self.mix(first, first, first, need_weights=need_weights)[0]  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Net(), torch.randn(3, 5, 8)
    rows = rows_of(model, x if batched else x[0])
    assert [(row.module, row.call, row.heads) for row in rows] == [("mix", 0, 4), ("mix", 1, 4)]
    x = x if batched else x[:1]
    q, k = heads_of(model.mix, x)
    check(rows[0], shares(q, k, torch.ones(5, 5, dtype=torch.bool), 2**-0.5))


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_gpt2(kind: str) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_embd=32, n_head=4, vocab_size=60, n_positions=16, initializer_range=0.5
    )
    config.bos_token_id = config.eos_token_id = None
    config._attn_implementation = kind
    model, tokens = GPT2LMHeadModel(config), torch.randint(60, (3, 10))
    rows = rows_of(model, tokens)
    assert [row.module for row in rows] == ["transformer.h.0.attn", "transformer.h.1.attn"]
    model.double().eval()
    layer = model.transformer.h[0]
    x = model.transformer.wte(tokens) + model.transformer.wpe(torch.arange(10))
    q, k, _ = layer.attn.c_attn(layer.ln_1(x)).detach().split(32, dim=-1)
    q, k = (t.view(3, 10, 4, 8).transpose(1, 2) for t in (q, k))
    model.float()
    truth = shares(q, k, torch.ones(10, 10, dtype=torch.bool).tril(), 8**-0.5)
    assert rows[0].entropy is not None
    # dropout before the first layer moves it a little; without it the numbers agree to rounding
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    check(rows_of(model, tokens)[0], truth)


def test_windows_of_one_sample_are_joined() -> None:
    q, k, v = (t.reshape(1, SAMPLES, HEADS, QUERIES, WIDTH) for t in qkv())

    def windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))

    (row,) = rows_of(Function(windows), q, k, v)
    truth = shares(*qkv()[:2], FULL, WIDTH**-0.5)
    assert row.heads == HEADS
    assert row.entropy is not None
    assert row.entropy.value == pytest.approx(truth.mean(), abs=1e-6)


# --- what is not attention, and what cannot be measured


@pytest.mark.parametrize(
    "function",
    [
        lambda q, k, v: v.softmax(-1),  # probabilities on their way to a layer
        lambda q, k, v: F.gelu(v),
        lambda q, k, v: (q @ k.mT).sigmoid() @ v,
    ],
)
def test_other_softmaxes_and_products_are_no_attention(
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    assert rows_of(Function(function), *qkv()) == []


def test_fully_masked_queries_are_counted_and_left_out() -> None:
    q, k, v = qkv()
    allowed = FULL.clone()
    allowed[1] = allowed[4] = False
    for value in (-torch.inf, -1e9):
        (row,) = rows_of(
            Function(lambda q, k, v: scores(q, k, allowed, value).softmax(-1).nan_to_num() @ v),  # noqa: B023
            *(q, k, v),
        )
        assert row.masked_queries == 2 * SAMPLES
        check(row, shares(q, k, allowed, WIDTH**-0.5))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda q: q[:, :, :1], "no query may look at two keys or more"),  # T = 1
        (lambda q: q.masked_fill(q == q.max(), torch.inf), "a logit is NaN or infinite"),
        (lambda q: q * torch.nan, "a logit is NaN or infinite"),
    ],
)
@pytest.mark.parametrize("way", ["fused", "by hand"])
def test_what_has_no_entropy_says_why(
    way: str, spoil: Callable[[Tensor], Tensor], why: str
) -> None:
    q, k, v = qkv()
    q = spoil(q)
    if q.shape[2] == 1:
        k, v = k[:, :, :1], v[:, :, :1]
    function = (
        F.scaled_dot_product_attention
        if way == "fused"
        else lambda q, k, v: (q @ k.mT / WIDTH**0.5).softmax(-1) @ v
    )
    rows, missing = found(Function(function), q, k, v)
    assert len(rows) == 1
    assert (rows[0].entropy, rows[0].lowest_head, rows[0].lowest_entropy) == (None, None, None)
    assert [(m.what, m.where, m.why) for m in missing] == [("attention entropy", "the model", why)]


def test_extremes_are_exact() -> None:
    q, k, v = qkv()
    (even,) = rows_of(Function(F.scaled_dot_product_attention), 0 * q, k, v)
    assert even.entropy is not None
    assert even.entropy.value == pytest.approx(1.0, abs=1e-6)
    assert even.largest_logit == 0.0
    (one,) = rows_of(Function(F.scaled_dot_product_attention), 1e6 * q, k, v)
    assert one.entropy is not None
    assert one.entropy.value < 1e-6


def test_quick_effort_spends_nothing_and_says_so() -> None:
    model = Encoder(batch_first=True)
    quick = Settings(effort="quick")
    rows, missing = measure_attention(opened(model, torch.randn(2, 3, 8)), quick)
    assert rows == ()
    assert [m.what for m in missing] == ["attention entropy"]
    assert measure_attention(opened(nn.Linear(2, 2), torch.randn(2, 2)), quick) == ((), ())


class SelfAttention(Function):
    pass


def by_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT / WIDTH**0.5).exp()
    return (weights / weights.sum(-1, keepdim=True)) @ v


def elementwise(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT / WIDTH**0.5).softmax(-1)
    return (weights[..., None] * v[:, :, None]).sum(-2)


@pytest.mark.parametrize(
    ("function", "why"),
    [(by_sums, "no fused kernel ran"), (elementwise, "its softmax is not a factor")],
)
def test_what_is_called_attention_and_not_recognised_is_a_gap(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], why: str
) -> None:
    rows, (gap,) = found(SelfAttention(function), *qkv())
    assert rows == ()
    assert (gap.what, gap.where) == ("attention entropy", "the model")
    assert gap.why.startswith(why)
    assert found(Function(function), *qkv()) == ((), ())


def test_one_of_two_attentions_that_is_not_recognised_is_named() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.ModuleList(
                [Function(F.scaled_dot_product_attention), Function(elementwise)]
            )

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return (self.attn[0](q, k, v) + self.attn[1](q, k, v)).softmax(-1)

    rows, (gap,) = found(Both(), *qkv())
    assert [row.module for row in rows] == ["attn.0"]
    assert gap.where == "attn.1"


@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_to_flatten_is_not_to_attend(effort: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    given = opened(model, torch.randn(3, 2, 2))
    assert measure_attention(given, Settings(effort=effort)) == ((), ())


def test_the_model_and_the_process_come_back_as_they_were() -> None:
    model = Encoder(batch_first=True).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    found(model, torch.randn(2, 3, 8))
    after = torch.rand(2)
    torch.manual_seed(3)
    torch.randn(2, 3, 8)
    assert torch.equal(after, torch.rand(2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert not model.training


def test_code_that_fails_only_while_watched_is_a_gap() -> None:
    class Shy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                raise RuntimeError("not while you look")
            return super().forward(x)

    rows, missing = found(Shy(2, 2), torch.randn(3, 2))
    assert rows == ()
    assert "not while you look" in missing[0].why
