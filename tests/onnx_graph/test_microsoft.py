"""Operators of the ``com.microsoft`` domain, beside onnxruntime's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto

from gradaudit.onnx_graph.operators.microsoft import fused_conv, fused_gemm
from gradaudit.onnx_graph.operators.microsoft_attention import attention
from gradaudit.onnx_graph.operators.microsoft_cache import group_query_attention
from tests.onnx_graph.one_node import as_onnxruntime

HEADS, BATCH, STEPS, PAST, SIZE = 2, 2, 3, 2, 4
TOTAL = PAST + STEPS
WIDE = HEADS * SIZE


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def whole(values: Any) -> Any:
    return np.array(values, np.int32)


def check(kind: str, inputs: dict[str, Any], outputs: Any = ("y",), **keywords: Any) -> Any:
    keywords = {"domain": "com.microsoft", "tolerance": 3e-5, **keywords}
    return as_onnxruntime(kind, inputs, outputs, **keywords)


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((2, 3, 4, 5), (2, 3, 5, 6), {"alpha": 0.5}),
        ((3, 5, 4), (3, 5, 6), {"transA": 1}),
        ((3, 4, 5), (6, 5), {"transB": 1}),
        ((4, 2, 3, 5), (2, 3, 5, 6), {"transBatchA": 1}),
        ((5, 2, 4), (2, 5, 6), {"transBatchA": 1, "transA": 1}),
        ((2, 3, 4, 5), (6, 2, 3, 5), {"transBatchB": 1, "transB": 1}),
    ],
)
def test_products(a: Any, b: Any, attributes: dict[str, Any]) -> None:
    check("FusedMatMul", {"a": floats(*a), "b": floats(*b)}, **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"activation": "Relu"},
        {"activation": "LeakyRelu", "activation_alpha": 0.3},
        {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4},
        {"activation": "Tanh", "transA": 1, "transB": 1, "alpha": 0.5, "beta": 0.3},
    ],
)
def test_gemm(attributes: dict[str, Any]) -> None:
    a = (4, 3) if "transA" in attributes else (3, 4)
    b = (5, 4) if "transB" in attributes else (4, 5)
    check("FusedGemm", {"a": floats(*a), "b": floats(*b), "c": floats(5)}, **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"activation": "Relu", "pads": [1, 1, 1, 1]},
        {"activation": "LeakyRelu", "activation_params": [0.2], "pads": [1, 0, 0, 2]},
        {"activation": "Clip", "activation_params": [-0.5, 0.5]},
        {"activation": "Sigmoid", "auto_pad": "SAME_UPPER", "strides": [2, 1]},
        {"activation": "Tanh", "auto_pad": "SAME_LOWER"},
        {"activation": "HardSigmoid", "activation_params": [0.2, 0.5], "auto_pad": "VALID"},
    ],
)
def test_convolution(attributes: dict[str, Any]) -> None:
    x, w, b = floats(2, 4, 8, 9), floats(6, 2, 2, 3), floats(6)
    check("FusedConv", {"x": x, "w": w, "b": b}, group=2, **attributes)


def test_convolution_with_a_sum() -> None:
    x, w, z = floats(2, 4, 8), floats(6, 4, 3), torch.from_numpy(floats(2, 6, 6))
    x, w = torch.from_numpy(x), torch.from_numpy(w)
    y = fused_conv(x, w, None, z, activation="Relu")
    assert torch.equal(y, torch.relu(torch.conv1d(x, w) + z))


@pytest.mark.parametrize(
    ("kind", "biased", "attributes"),
    [
        ("Gelu", False, {}),
        ("BiasGelu", True, {}),
        ("FastGelu", True, {}),
        ("FastGelu", False, {}),
        ("QuickGelu", False, {}),
        ("QuickGelu", False, {"alpha": 1.0}),
    ],
)
def test_gelus(kind: str, biased: bool, attributes: dict[str, Any]) -> None:
    inputs = {"x": floats(3, 4), **({"b": floats(4)} if biased else {})}
    check(kind, inputs, tolerance=1e-4, **attributes)


def test_normalizations() -> None:
    x, g, b = floats(2, 3, 4), floats(4), floats(1, 4)[0]
    old = {"domain": "", "opset": 16}
    check("LayerNormalization", {"x": x, "g": g, "b": b}, ["y", "m", "i"], **old)
    part = {"x": x, "g": floats(3, 4), "b": floats(3, 4)}
    check("LayerNormalization", part, ["y", "m", "i"], axis=1, epsilon=0.1, **old)
    check("SimplifiedLayerNormalization", {"x": x, "g": g}, ["y", "i"], **old)
    skip = floats(2, 3, 4) + 1
    given = {"x": x, "skip": skip, "g": g, "b": b, "c": floats(4)}
    check("SkipLayerNormalization", given, ["y", "", "", "sum"], epsilon=1e-3)
    check("SkipLayerNormalization", {"x": x, "skip": skip[0], "g": g})
    given = {"x": x, "skip": skip, "g": g, "c": floats(4)}
    check("SkipSimplifiedLayerNormalization", given, ["y", "", "", "sum"])


def test_embeddings() -> None:
    given = {
        "ids": whole([[4, 1, 0], [2, 2, 3]]),
        "segments": whole([[0, 1, 1], [1, 0, 0]]),
        "words": floats(5, 4),
        "positions": floats(6, 4),
        "kinds": floats(2, 4),
        "g": floats(4),
        "b": floats(1, 4)[0],
        "mask": whole([[1, 1, 0], [1, 0, 0]]),
    }
    check("EmbedLayerNormalization", given, ["y", "count", "sum"])
    given |= {"segments": None, "kinds": None, "mask": None, "places": whole([[5, 0, 1]] * 2)}
    check("EmbedLayerNormalization", given, ["y", "count"])


SELF = whole([[1, 1, 0], [1, 0, 1]])
MASKS: dict[str, Any] = {
    "none": None,
    "lengths": whole([2, 3]),
    "ends and starts": whole([2, 3, 0, 1]),
    "keys": SELF,
    "padded on the left": whole([[0, 1, 1], [1, 1, 1]]),
    "nothing seen": whole([[0, 0, 0], [1, 0, 1]]),
    "queries and keys": whole([[[1, 0, 0], [1, 1, 0], [0, 1, 1]]] * 2),
}


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"mask_filter_value": -1.0}])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, attributes: dict[str, Any]) -> None:
    given = {"x": floats(BATCH, STEPS, 6), "w": floats(6, 3 * WIDE), "b": floats(3 * WIDE)}
    check("Attention", {**given, "mask": MASKS[mask]}, num_heads=HEADS, **attributes)


@pytest.mark.parametrize("mask", [None, whole([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]])])
@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1, "scale": 0.3}])
def test_attention_with_a_past(mask: Any, attributes: dict[str, Any]) -> None:
    given = {
        "x": floats(BATCH, STEPS, 6),
        "w": floats(6, 3 * WIDE),
        "b": floats(3 * WIDE),
        "mask": mask,
        "past": floats(2, BATCH, HEADS, PAST, SIZE),
    }
    check("Attention", given, ["y", "present"], num_heads=HEADS, **attributes)


@pytest.mark.parametrize(
    ("replaced", "attributes"),
    [
        ({}, {"unidirectional": 1}),
        ({"b": None}, {"scale": 0.2}),
        ({"mask": SELF}, {"unidirectional": 1}),
        ({"mask": whole([2, 3])}, {}),
        ({"bias": floats(1, HEADS, STEPS, STEPS)}, {}),
        ({"k": floats(BATCH, 5, WIDE), "v": floats(BATCH, 5, WIDE)}, {}),
        ({"k": floats(BATCH, HEADS, 5, SIZE), "v": floats(BATCH, HEADS, 5, SIZE)}, {}),
    ],
)
def test_multi_head_attention(replaced: dict[str, Any], attributes: dict[str, Any]) -> None:
    given = {name: floats(BATCH, STEPS, WIDE) for name in "qkv"} | {"b": floats(3 * WIDE)}
    given |= {"mask": None, "bias": None, **replaced}
    check("MultiHeadAttention", given, num_heads=HEADS, **attributes)


@pytest.mark.parametrize("mask", [None, whole([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]])])
def test_multi_head_attention_with_a_past(mask: Any) -> None:
    given = {name: floats(BATCH, STEPS, WIDE) for name in "qkv"} | {"b": floats(3 * WIDE)}
    past = {name: floats(BATCH, HEADS, PAST, SIZE) for name in ("past_k", "past_v")}
    given |= {"mask": mask, "bias": floats(1, HEADS, STEPS, TOTAL), **past}
    check("MultiHeadAttention", given, ["y", "key", "value"], num_heads=HEADS, unidirectional=1)
    outputs, floating = ["y", "key", "value", "qk"], {"qk": TensorProto.FLOAT}
    check("MultiHeadAttention", given, outputs, output_types=floating, num_heads=HEADS)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    ("x", "positions", "turned", "attributes"),
    [
        ((2, 3, 16), np.array([[0, 5, 2], [1, 1, 3]]), 8, {}),
        ((2, 2, 3, 8), np.array([[0, 5, 2], [1, 1, 3]]), 8, {}),
        ((2, 3, 16), np.array([2]), 8, {}),
        ((2, 3, 16), np.array([2]), 4, {"num_heads": 2, "rotary_embedding_dim": 4}),
    ],
)
def test_rotation(
    x: Any, positions: Any, turned: int, attributes: dict[str, Any], interleaved: int
) -> None:
    given = {"x": floats(*x), "at": positions, "c": floats(6, turned // 2)}
    given["s"] = given["c"] + 1
    check("RotaryEmbedding", given, interleaved=interleaved, **attributes)


def grouped(steps: int, past: int, total: int, rotary: bool) -> dict[str, Any]:
    """Inputs of four query heads and two of keys, of 16 features each."""
    return {
        "q": floats(BATCH, steps, 64),
        "k": floats(BATCH, steps, 32),
        "v": floats(BATCH, steps, 32) + 1,
        "past_k": floats(BATCH, 2, past, 16) if past else None,
        "past_v": floats(BATCH, 2, past, 16) - 1 if past else None,
        "lengths": whole([total - 1] * BATCH),
        "total": whole(total),
        "c": floats(16, 8) if rotary else None,
        "s": floats(16, 8) + 1 if rotary else None,
    }


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [
        ((3, 0, 3), {}),
        ((3, 0, 3), {"do_rotary": 1}),
        ((3, 0, 3), {"do_rotary": 1, "rotary_interleaved": 1}),
        ((3, 0, 3), {"softcap": 2.0, "scale": 0.3}),
        ((3, 0, 3), {"smooth_softmax": 1}),
        ((4, 0, 4), {"local_window_size": 2}),
        ((1, 4, 5), {"do_rotary": 1}),
        ((1, 6, 7), {"local_window_size": 3}),
    ],
)
def test_group_query_attention(sizes: Any, attributes: dict[str, Any]) -> None:
    given = grouped(*sizes, rotary="do_rotary" in attributes)
    heads = {"num_heads": 4, "kv_num_heads": 2}
    check("GroupQueryAttention", given, ["y", "keys", "values"], **heads, **attributes)


def test_group_query_attention_packed_with_a_sink() -> None:
    given = grouped(3, 0, 3, rotary=False)
    sink = {"at": None, "bias": floats(1, 4, 3, 3), "sink": floats(4)}
    heads = {"num_heads": 4, "kv_num_heads": 2}
    outputs = ["y", "keys", "values"]
    apart = check("GroupQueryAttention", {**given, **sink}, outputs, **heads)
    packed = np.concatenate([given["q"], given["k"], given["v"]], -1)
    given |= {"q": packed, "k": None, "v": None, **sink}
    for one, other in zip(
        check("GroupQueryAttention", given, outputs, **heads), apart, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_samples_of_different_lengths_in_a_cache() -> None:
    given = {
        name: None if value is None else torch.from_numpy(value)
        for name, value in grouped(1, 8, 5, rotary=False).items()
    }
    given["lengths"] = torch.tensor([3, 4])
    y, keys, _ = group_query_attention(*given.values(), num_heads=4, kv_num_heads=2)
    assert torch.equal(keys[0, :, 3].flatten(), given["k"][0, 0])
    assert torch.equal(keys[1, :, 4].flatten(), given["k"][1, 0])
    alone = [value[:1] if value is not None and value.dim() else value for value in given.values()]
    alone[6] = torch.tensor(4)
    torch.testing.assert_close(group_query_attention(*alone, num_heads=4, kv_num_heads=2)[0], y[:1])


def test_gradients() -> None:
    def doubles(*shape: int) -> torch.Tensor:
        return torch.from_numpy(floats(*shape)).double().requires_grad_()

    def attend(*given: Any) -> Any:
        return attention(*given, torch.from_numpy(SELF), num_heads=HEADS)[0]

    given = (doubles(BATCH, STEPS, 6), doubles(6, 3 * WIDE), doubles(3 * WIDE))
    assert torch.autograd.gradcheck(attend, given, fast_mode=True)
    cache = [doubles(BATCH, 2, 4, 16), doubles(BATCH, 2, 4, 16)]

    def step(*given: Any) -> Any:
        ends = (torch.tensor([3, 4]), torch.tensor(5))
        return group_query_attention(*given, *ends, num_heads=4, kv_num_heads=2)

    row = (doubles(BATCH, 1, 64), doubles(BATCH, 1, 32), doubles(BATCH, 1, 32), *cache)
    assert torch.autograd.gradcheck(step, row, fast_mode=True)


ONE = torch.ones(1, 1, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attention(ONE, torch.ones(3, 6), num_heads=4), "4 equal heads, found 2"),
        (lambda: attention(ONE, torch.ones(3, 6), num_heads=1, do_rotary=1), "no do_rotary"),
        (
            lambda: attention(ONE, torch.ones(3, 6), None, torch.ones(5), num_heads=1),
            r"a mask of 1 lengths, or of 1 keys, found \[5\]",
        ),
        (lambda: fused_conv(torch.ones(2, 2), ONE), "3 to 5 dimensions, found 2"),
        (lambda: fused_gemm(ONE[0], ONE[0].mT, activation="Sine"), "found 'Sine'"),
    ],
)
def test_what_cannot_be_is_said(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
