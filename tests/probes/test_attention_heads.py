"""QK and OV norms per head against products formed in full, for every way attention is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradaudit.linalg.products import gram, product_norm
from gradaudit.probes.attention_heads import measure_heads
from gradaudit.records import HeadRow, NotMeasured, plain
from tests.reference import attention_head_norms, top_singular_value


def measure(model: nn.Module) -> tuple[tuple[HeadRow, ...], tuple[NotMeasured, ...]]:
    before = {name: t.clone() for name, t in model.state_dict().items()}
    random = torch.get_rng_state()
    rows, missing = measure_heads(model)
    plain([*rows, *missing])  # raises on NaN and infinity
    assert all(
        torch.equal(
            before[n],
            t,
        )
        or not torch.isfinite(t).all()
        for n, t in model.state_dict().items()
    )
    assert torch.equal(random, torch.get_rng_state())
    return rows, missing


def check(rows: Sequence[HeadRow], *weights: Tensor, heads: int) -> None:
    """Query, key, value and output, each (outputs, inputs)."""
    truths = attention_head_norms(*(t.detach().double().numpy() for t in weights), heads=heads)
    assert [row.head for row in rows] == list(range(heads))
    for row, (qk, ov) in zip(rows, truths, strict=True):
        for estimate, truth in ((row.qk, qk), (row.ov, ov)):
            assert estimate is not None
            assert estimate.value == pytest.approx(truth, rel=1e-7)
            assert estimate.low <= truth * (1 + 1e-12)  # type: ignore[operator]
            assert estimate.high >= truth * (1 - 1e-12)  # type: ignore[operator]


class TestTorchsOwn:
    def test_fused(self) -> None:
        module = nn.MultiheadAttention(12, 3)
        rows, missing = measure(module)
        check(rows, *module.in_proj_weight.chunk(3), module.out_proj.weight, heads=3)
        assert missing == ()
        assert {row.module for row in rows} == {""}

    def test_keys_and_values_of_other_widths(self) -> None:
        module = nn.MultiheadAttention(12, 3, kdim=5, vdim=7)
        parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        check(measure(module)[0], *parts, module.out_proj.weight, heads=3)

    def test_as_used_under_a_parametrization(self) -> None:
        module = nn.MultiheadAttention(8, 2)
        nn.utils.parametrizations.spectral_norm(module, "in_proj_weight")
        rows, _ = measure(module.eval())
        check(rows, *module.in_proj_weight.chunk(3), module.out_proj.weight, heads=2)

    def test_every_layer_of_a_decoder_and_not_their_out_proj(self) -> None:
        layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
        rows, _ = measure(nn.TransformerDecoder(layer, 2))
        assert [row.module for row in rows] == [
            f"layers.{i}.{name}"
            for i in (0, 1)
            for name in ("self_attn",) * 2 + ("multihead_attn",) * 2
        ]

    def test_heads_wider_than_the_model(self) -> None:
        """The Gram matrices then lack rank, and have no Cholesky factor."""
        module = nn.MultiheadAttention(8, 1, kdim=3, vdim=2)
        parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        check(measure(module)[0], *parts, module.out_proj.weight, heads=1)


class Written(nn.Module):
    """A hand-written attention with what names, numbers and layers the test gives it."""

    def __init__(self, layers: dict[str, nn.Module], **numbers: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        for name, number in numbers.items():
            setattr(self, name, number)


def dense(*sizes: tuple[int, int]) -> list[nn.Linear]:
    return [nn.Linear(inputs, outputs) for inputs, outputs in sizes]


SQUARE = ((12, 12),) * 4
NAMES = [
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("query", "key", "value", "proj"),
    ("wq", "wk", "wv", "wo"),
    ("W_Q", "W_K", "W_V", "W_O"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("q", "k", "v", "o"),
    ("queries", "keys", "values", "fc_out"),
]


class TestByNames:
    @pytest.mark.parametrize("names", NAMES, ids="-".join)
    def test_four_layers(self, names: tuple[str, ...]) -> None:
        layers = dense(*SQUARE)
        module = nn.ModuleDict({"a": Written(dict(zip(names, layers, strict=True)), num_heads=3)})
        rows, missing = measure(module)
        check(rows, *(layer.weight for layer in layers), heads=3)
        assert missing == ()
        assert rows[0].module == "a"

    def test_an_output_in_a_container_with_its_dropout(self) -> None:
        q, k, v, o = dense(*SQUARE)
        layers = {"to_q": q, "to_k": k, "to_v": v, "to_out": nn.Sequential(o, nn.Dropout())}
        rows, _ = measure(Written(layers, heads=2))
        check(rows, q.weight, k.weight, v.weight, o.weight, heads=2)

    def test_grouped_queries(self) -> None:
        q, k, v, o = dense((12, 16), (12, 8), (12, 8), (16, 12))
        layers = {"q_proj": q, "k_proj": k, "v_proj": v, "o_proj": o}
        module = Written(layers, num_attention_heads=4, num_key_value_heads=2)
        check(measure(module)[0], q.weight, k.weight, v.weight, o.weight, heads=4)

    @pytest.mark.parametrize("name", ["qkv", "c_attn", "to_qkv", "Wqkv"])
    def test_stacked(self, name: str) -> None:
        fused, o = dense((12, 36), (12, 12))
        rows, _ = measure(Written({name: fused, "proj": o}, num_heads=3))
        check(rows, *fused.weight.chunk(3), o.weight, heads=3)

    def test_stacked_with_grouped_queries(self) -> None:
        fused, o = dense((12, 32), (16, 12))
        module = Written({"qkv_proj": fused, "o_proj": o}, num_heads=4, num_key_value_heads=2)
        check(measure(module)[0], *fused.weight.split([16, 8, 8]), o.weight, heads=4)

    def test_normalised_queries_leave_the_values(self) -> None:
        q, k, v, o = dense(*SQUARE)
        layers = {"q_proj": q, "k_proj": k, "v_proj": v, "o_proj": o, "q_norm": nn.LayerNorm(4)}
        rows, missing = measure(Written(layers, num_heads=3))
        assert all(row.qk is None and row.ov is not None for row in rows)
        assert [(m.what, m.where) for m in missing] == [("QK norm per head", "the model")]

    def test_the_number_of_heads_from_a_config_or_their_width(self) -> None:
        q, k, v, o = dense(*SQUARE)
        layers = {"q_proj": q, "k_proj": k, "v_proj": v, "o_proj": o}

        @dataclass
        class Config:
            num_attention_heads: int = 6

        told = Written(layers)
        told.config = Config()  # type: ignore[assignment]
        assert len(measure(told)[0]) == 6
        assert len(measure(Written(layers, head_dim=3))[0]) == 4


class TestNotMeasured:
    @pytest.mark.parametrize(
        ("layers", "numbers", "why"),
        [
            ({"q": (8, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8)}, {}, "no attribute"),
            ({"q": (8, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8)}, {"num_heads": 3}, "divide"),
            (
                {"q": (8, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8)},
                {"num_heads": 4, "num_kv_heads": 2},
                "do not share 2",
            ),
            ({"qkv": (8, 22), "proj": (8, 8)}, {"num_heads": 2}, "cannot be told apart"),
        ],
    )
    def test_what_shapes_and_numbers_do_not_bear_out(
        self, layers: dict[str, tuple[int, int]], numbers: dict[str, int], why: str
    ) -> None:
        made = {name: nn.Linear(*sizes) for name, sizes in layers.items()}
        rows, missing = measure(nn.Sequential(Written(made, **numbers)))  # type: ignore[arg-type]
        assert rows == ()
        assert len(missing) == 1
        assert missing[0].where == "0"
        assert why in missing[0].why

    def test_an_attention_whose_projections_have_other_names(self) -> None:
        class OddAttention(Written):
            pass

        (layer,) = dense((8, 24))
        rows, missing = measure(OddAttention({"query_key_value": layer}, num_heads=2))
        assert rows == ()
        assert "cannot be told from their names" in missing[0].why

    def test_no_output_projection(self) -> None:
        q, k, v = dense(*SQUARE[:3])
        rows, missing = measure(Written({"query": q, "key": k, "value": v}, num_heads=2))
        assert all(row.qk is not None and row.ov is None for row in rows)
        assert [m.what for m in missing] == ["OV norm per head"]

    def test_infinite_weights(self) -> None:
        module = nn.MultiheadAttention(8, 2)
        nn.init.constant_(module.out_proj.weight, math.inf)
        rows, missing = measure(module)
        assert rows == ()
        assert "infinite" in missing[0].why

    def test_many_layers_alike_are_told_once(self) -> None:
        layer = Written(dict(zip("qkv", dense(*SQUARE[:3]), strict=True)))
        model = nn.Sequential(
            *(Written({"a": layer}) for _ in range(1)),
            *(Written(dict(zip("qkv", dense(*SQUARE[:3]), strict=True))) for _ in range(4)),
        )
        _, missing = measure(model)
        assert len(missing) == 1
        assert missing[0].where == "0.a, 1, 2 and 2 more"

    def test_a_model_without_attention_has_none_and_says_nothing(self) -> None:
        assert measure(nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3))) == ((), ())


class TestHuggingFace:
    SIZES = {  # noqa: RUF012
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 8,
        "vocab_size": 50,
    }

    def test_gpt2_stores_its_weights_inputs_first(self) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            n_embd=24,
            n_layer=2,
            n_head=4,
            vocab_size=50,
            n_positions=8,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(config)
        rows, missing = measure(model)
        assert missing == ()
        assert len(rows) == 8
        attention = model.transformer.h[1].attn
        parts = attention.c_attn.weight.T.chunk(3)
        check(rows[4:], *parts, attention.c_proj.weight.T, heads=4)

    def test_bert_keeps_its_output_beside(self) -> None:
        transformers = pytest.importorskip("transformers")
        model = transformers.BertModel(transformers.BertConfig(**self.SIZES))
        rows, missing = measure(model)
        assert missing == ()
        own = model.encoder.layer[0].attention
        inner = getattr(own, "self")  # noqa: B009 - a keyword-like name
        weights = (inner.query.weight, inner.key.weight, inner.value.weight)
        check(rows[:4], *weights, own.output.dense.weight, heads=4)

    def test_llama_groups_its_queries(self) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.LlamaConfig(**self.SIZES, num_key_value_heads=2)
        model = transformers.LlamaModel(config)
        rows, missing = measure(model)
        assert missing == ()
        a = model.layers[0].self_attn
        weights = (a.q_proj.weight, a.k_proj.weight, a.v_proj.weight, a.o_proj.weight)
        check(rows[:4], *weights, heads=4)


class TestProductNorm:
    @pytest.mark.parametrize("shape", [(4, 30, 20), (1, 5, 5), (8, 3, 2), (6, 6, 1)])
    @pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
    def test_against_the_product_in_full(self, shape: tuple[int, int, int], scale: float) -> None:
        d, m, n = shape
        rng = np.random.default_rng(d * m)
        left, right = rng.normal(size=(d, m)) * scale, rng.normal(size=(d, n))
        bounds = product_norm(gram(torch.tensor(left)), gram(torch.tensor(right)), m + n)
        truth = top_singular_value(left.T @ right)
        assert bounds.value == pytest.approx(truth, rel=1e-9)
        assert bounds.low <= truth <= bounds.high

    def test_factors_that_hardly_meet_are_bounded_not_made_up(self) -> None:
        left = np.diag([1.0, 1e-9, 0.0])
        right = np.diag([0.0, 1.0, 1.0])
        bounds = product_norm(gram(torch.tensor(left)), gram(torch.tensor(right)), 6)
        assert bounds.low <= 1e-9 <= bounds.high <= 1e-6

    def test_zero(self) -> None:
        zero, one = gram(torch.zeros(3, 4)), gram(torch.ones(3, 4))
        assert product_norm(zero, one, 8).high == 0.0
