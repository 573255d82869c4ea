"""Attention beyond ONNX's node tests: gradients, both ways of computing it, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._attending import attend, attend_in_steps, window
from gradaudit.onnx_graph.operators.attention import attention, flex_attention, rotary_embedding
from gradaudit.onnx_graph.operators.linear_attention import linear_attention
from tests.onnx_graph.one_node import as_onnxruntime

ALL = (True, True, True, True)


def random(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    draw = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=draw, dtype=torch.float64, requires_grad=grad)


def query_key_value(heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return random(2, heads, 3, 4), random(2, 2, 5, 4, seed=1), random(2, 2, 5, 6, seed=2)


MASK = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]], dtype=torch.bool)
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "seen": {"seen": MASK},
    "bias": {"bias": random(2, 1, 3, 5, grad=False)},
    "both": {"seen": MASK, "bias": random(1, 1, 3, 5, grad=False)},
    "infinite bias": {"bias": torch.zeros(3, 5).masked_fill(~MASK, -torch.inf)},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("heads", [2, 4])
def test_the_kernel_and_the_steps_agree(mask: str, heads: int) -> None:
    given = query_key_value(heads)
    fused = attend(*given, **MASKS[mask], scale=0.3)
    stepwise, steps = attend_in_steps(*given, **MASKS[mask], scale=0.3)
    torch.testing.assert_close(fused, stepwise)
    assert len(steps) == 4
    for one, other in zip(
        torch.autograd.grad(fused.square().sum(), given),
        torch.autograd.grad(stepwise.square().sum(), given),
        strict=True,
    ):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other)


# torch's own forward mode writes its decompositions for torch.jit
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("attributes", [{}, {"softcap": 2.0}, {"is_causal": 1, "softcap": 2.0}])
def test_gradients(attributes: dict[str, Any]) -> None:
    def run(*given: Tensor) -> Tensor:
        return attention(*given, **attributes)[0]  # type: ignore[return-value]

    assert torch.autograd.gradcheck(run, query_key_value(4), fast_mode=True)
    if attributes:
        assert torch.autograd.gradgradcheck(run, query_key_value(4), fast_mode=True)
        assert torch.autograd.gradcheck(
            run, query_key_value(), fast_mode=True, check_forward_ad=True
        )


@pytest.mark.parametrize("mode", range(4))
def test_stages(mode: int) -> None:
    q, k, v = query_key_value()
    bias = random(3, 5, grad=False)
    *_, stage = attention(
        q, k, v, bias, softcap=2.0, scale=0.25, qk_matmul_output_mode=mode, wanted=ALL
    )
    scores = 0.25 * q @ k.mT
    capped = 2 * torch.tanh(scores / 2)
    expected = [scores, capped, capped + bias, torch.softmax(capped + bias, -1)][mode]
    torch.testing.assert_close(stage, expected)


def test_a_causal_query_sees_keys_up_to_its_own_position_after_the_past() -> None:
    q, k, v = random(1, 1, 2, 4), random(1, 1, 2, 4, seed=1), random(1, 1, 2, 4, seed=2)
    past_k, past_v = random(1, 1, 3, 4, seed=3), random(1, 1, 3, 4, seed=4)
    y, keys, values, _ = attention(q, k, v, None, past_k, past_v, is_causal=1)
    assert keys is not None
    assert values is not None
    expected = attend(q, keys, values, seen=window(2, 5, 3, right=0))
    torch.testing.assert_close(y, expected)
    alone = attention(q, keys, values, is_causal=1)[0]
    torch.testing.assert_close(alone, attend(q, keys, values, seen=window(2, 5, 0, right=0)))


def test_a_softmax_in_another_precision() -> None:
    given = [each.to(torch.float16) for each in query_key_value()]
    wide = attention(*[each.double() for each in given])[0]
    for precision in (None, 1, 10, 11):
        y = attention(*given, softmax_precision=precision)[0]
        assert y is not None
        assert y.dtype == torch.float16
        torch.testing.assert_close(y.double(), wide, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("attributes", "mask"),
    [
        ({}, None),
        ({"is_causal": 1}, None),
        ({"softcap": 1.5, "scale": 0.4}, None),
        ({}, np.array([[True, False, True], [True, True, False], [True, False, False]])),
    ],
)
def test_as_onnxruntime(attributes: dict[str, Any], mask: Any) -> None:
    draw = np.random.default_rng(0)
    inputs = {
        "q": draw.standard_normal((2, 3, 16)).astype(np.float32),
        "k": draw.standard_normal((2, 3, 8)).astype(np.float32),
        "v": draw.standard_normal((2, 3, 8)).astype(np.float32),
        "mask": mask,
    }
    as_onnxruntime("Attention", inputs, opset=23, q_num_heads=4, kv_num_heads=2, **attributes)


def test_flex_attention_with_modifiers() -> None:
    q, k, v = query_key_value(4)
    y = flex_attention(q, k, v, score_mod=lambda s: (s + 1,), prob_mod=lambda p: (2 * p,))
    torch.testing.assert_close(y, 2 * attend(q, k, v))
    torch.testing.assert_close(flex_attention(q, k, v), attend(q, k, v))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotation_keeps_lengths_and_has_a_gradient(interleaved: int) -> None:
    x, angle = random(2, 3, 8), random(2, 3, 2, seed=1)

    def run(x: Tensor, angle: Tensor) -> Tensor:
        return rotary_embedding(x, angle.cos(), angle.sin(), interleaved=interleaved, num_heads=2)

    torch.testing.assert_close(run(x, angle).norm(dim=-1), x.norm(dim=-1))
    assert torch.autograd.gradcheck(run, (x, angle))


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention_has_gradients(rule: str) -> None:
    q, k, v = random(2, 3, 8), random(2, 3, 4, seed=1), random(2, 3, 6, seed=2)
    state = random(2, 2, 2, 3)
    decay = random(2, 3, 4, seed=3) if "gated" in rule else None
    beta = random(2, 3, 2, seed=4) if "delta" in rule else None

    def run(*given: Any) -> Any:
        return linear_attention(*given, q_num_heads=4, kv_num_heads=2, update_rule=rule)

    assert torch.autograd.gradcheck(run, (q, k, v, state, decay, beta), fast_mode=True)


FLAT = torch.ones(1, 2, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attention(FLAT, FLAT, FLAT), "of 3 with q_num_heads"),
        (lambda: attention(FLAT, FLAT, FLAT, q_num_heads=3, kv_num_heads=3), "3 equal heads"),
        (lambda: attend_in_steps(*[random(1, n, 2, 2) for n in (3, 2, 2)]), "2 key heads"),
        (lambda: rotary_embedding(FLAT, FLAT, FLAT), "expected num_heads"),
        (lambda: rotary_embedding(FLAT, FLAT, FLAT, num_heads=2), "half of 2 features, found 4"),
        (
            lambda: linear_attention(FLAT, FLAT, FLAT, q_num_heads=2, kv_num_heads=2),
            "expected a decay with the rule 'gated_delta'",
        ),
        (
            lambda: linear_attention(
                FLAT, FLAT, FLAT, q_num_heads=2, kv_num_heads=2, update_rule="other"
            ),
            "expected an update rule of .* found 'other'",
        ),
    ],
)
def test_what_cannot_be_is_said(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
