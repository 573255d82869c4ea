from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto

from gradaudit.onnx_graph.node import NodeError
from gradaudit.onnx_graph.tensors import DTYPES, from_numpy, to_numpy
from tests.onnx_graph.node_models import agree, function, ours

P = TensorProto
NUMBERS = [np.float16, np.float32, np.float64, np.int8, np.int32, np.int64, np.uint8, np.bool_]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("source", NUMBERS)
@pytest.mark.parametrize("to", [P.FLOAT16, P.DOUBLE, P.INT16, P.UINT8, P.UINT32, P.INT64, P.BOOL])
def test_casts_between_numbers(source, to):
    agree("Cast", np.array([0, 1, 2.7, 100]).astype(source), opset=13, to=to)


def test_integers_out_of_range_lose_their_upper_bits():
    assert ours("Cast", np.array([200, -1], dtype=np.int16), to=P.INT8).tolist() == [-56, -1]
    assert ours("Cast", np.array([-1, 70000]), to=P.UINT16).tolist() == [65535, 4464]


def test_casts_pass_gradients():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    function("Cast")(x, to=P.DOUBLE).square().sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_strings():
    texts = np.array([["3.5", "-INF"], ["NaN", "1e3"]], dtype=object)
    got = function("Cast")(texts, to=P.FLOAT)
    torch.testing.assert_close(got, torch.tensor([[3.5, -INF], [NAN, 1000]]), equal_nan=True)
    whole = np.array(["9007199254740993", "100.5"], dtype=object)
    assert function("Cast")(whole, to=P.INT64).tolist() == [2**53 + 1, 100]
    assert function("CastLike")(torch.tensor([1.5, 2]), texts).tolist() == ["1.5", "2.0"]
    assert function("Cast")(texts, to=P.STRING) is texts


# of each type: its largest value, and what exceeds it without saturating
FLOAT8 = [
    (P.FLOAT8E4M3FN, 448, NAN),
    (P.FLOAT8E4M3FNUZ, 240, NAN),
    (P.FLOAT8E5M2, 57344, INF),
    (P.FLOAT8E5M2FNUZ, 57344, NAN),
]


@pytest.mark.parametrize(("to", "largest", "beyond"), FLOAT8)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_float8(to, largest, beyond, dtype):
    x = torch.tensor([largest, 1e6, INF, -1e6, NAN, 0.5], dtype=dtype)
    for saturate, top in ((1, largest), (0, beyond)):
        got = function("Cast")(x, to=to, saturate=saturate)
        assert got.dtype == DTYPES[to]
        want = torch.tensor([largest, top, top, -top, NAN, 0.5])
        torch.testing.assert_close(got.float(), want, equal_nan=True)
        assert function("IsNaN")(got).tolist() == want.isnan().tolist()
        assert function("IsInf")(got).tolist() == want.isinf().tolist()
        raw = to_numpy(got)
        assert raw.tobytes() == to_numpy(from_numpy(raw)).tobytes()


@pytest.mark.parametrize(
    ("mode", "want"),
    [("up", [1, 2, 2, 4]), ("down", [1, 1, 1, 2]), ("nearest", [1, 1, 2, 4])],
)
def test_powers_of_two(mode, want):
    x = torch.tensor([1, 1.25, 1.5, 3.5])
    got = function("Cast")(x, to=P.FLOAT8E8M0, round_mode=mode)
    assert got.float().tolist() == want
    with pytest.raises(NodeError, match="up, down or nearest, not 'odd'"):
        ours("Cast", np.float32([1]), to=P.FLOAT8E8M0, round_mode="odd", opset=24)


def test_powers_of_two_at_the_ends():
    x = torch.tensor([0, NAN, INF, 3e38, 1e300, 1e-300], dtype=torch.float64)
    cast = function("Cast")
    saturated = cast(x, to=P.FLOAT8E8M0).view(torch.uint8)
    assert saturated.tolist() == [0, 255, 254, 254, 254, 0]
    strict = cast(x, to=P.FLOAT8E8M0, saturate=0, round_mode="nearest").view(torch.uint8)
    assert strict.tolist() == [255, 255, 255, 255, 255, 255]


def test_bits_read_as_another_type():
    assert ours("BitCast", np.float32([1]), to=P.INT32, opset=26).tolist() == [0x3F800000]
    assert ours("BitCast", np.uint16([0x3C00]), to=P.FLOAT16, opset=26).tolist() == [1]
    assert ours("BitCast", np.uint64([2**63]), to=P.DOUBLE, opset=26).tolist() == [0]
    assert ours("BitCast", np.int32([-1]), to=P.UINT32, opset=26).tolist() == [2**32 - 1]
    with pytest.raises(NodeError, match="a type of 32 bits is needed, not float64"):
        ours("BitCast", np.float32([1]), to=P.DOUBLE, opset=26)


def test_a_type_that_torch_lacks():
    with pytest.raises(NodeError, match="tensors of type INT4, which torch does not carry"):
        ours("Cast", np.float32([1]), to=P.INT4)
