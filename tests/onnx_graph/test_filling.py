from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from gradaudit.onnx_graph.node import NodeError
from gradaudit.onnx_graph.tensors import to_numpy
from tests.onnx_graph.node_models import agree, check_derivatives, drawn, function, ours

INT64 = np.int64


@pytest.mark.parametrize(
    ("start", "limit", "delta"),
    [(3, 9, 3), (10, 4, -2), (1, 1, 1), (5, 1, 1), (0, 10, 3), (2**53 + 1, 2**53 + 4, 1)],
)
def test_ranges_of_integers(start, limit, delta):
    given = [np.array(n, dtype=INT64) for n in (start, limit, delta)]
    got = ours("Range", *given, opset=11)
    assert (got.dtype, got.tolist()) == (torch.int64, list(range(start, limit, delta)))


def test_ranges_of_floats():
    for dtype in (np.float32, np.float64):
        agree("Range", *(np.array(n, dtype=dtype) for n in (0.5, 2.1, 0.25)), opset=11)
    halves = [np.array(n, dtype=np.float16) for n in (2046, 2056, 2)]
    assert ours("Range", *halves, opset=27).tolist() == [2046, 2048, 2050, 2052, 2054]
    start, limit, delta = (torch.tensor(n).double() for n in (1.0, 4.2, 0.7))
    check_derivatives(lambda a, d: function("Range")(a, limit, d), start, delta)
    with pytest.raises(NodeError, match="delta should not be 0"):
        ours("Range", *(np.array(n, dtype=INT64) for n in (1, 2, 0)), opset=11)


def test_constants_of_a_shape():
    value = helper.make_tensor("v", TensorProto.INT32, [1], [7])
    for shape in ([], [2, 3], [0, 4]):
        agree("ConstantOfShape", np.array(shape, dtype=INT64), opset=9)
        agree("ConstantOfShape", np.array(shape, dtype=INT64), opset=9, value=value)
    two = helper.make_tensor("v", TensorProto.INT32, [2], [7, 8])
    with pytest.raises(NodeError, match=r"one number, not of shape \[2\]"):
        ours("ConstantOfShape", np.array([1], dtype=INT64), value=two)


def test_ones_on_a_diagonal():
    for k in (-5, -1, 0, 2, 9):
        agree("EyeLike", drawn(3, 4), opset=9, k=k)
        agree("EyeLike", drawn(3, 4), opset=9, k=k, dtype=TensorProto.INT64)
    with pytest.raises(NodeError, match="a matrix, not of 1 dimensions"):
        ours("EyeLike", drawn(3))


def test_random_numbers_are_spread_as_asked():
    torch.manual_seed(0)
    normal = ours("RandomNormal", shape=[20000], mean=3.0, scale=2.0)
    assert normal.mean().item() == pytest.approx(3, abs=0.1)
    assert normal.std().item() == pytest.approx(2, abs=0.1)
    like = np.zeros((100, 200), dtype=np.float64)
    uniform = ours("RandomUniformLike", like, low=-1.0, high=3.0)
    assert uniform.dtype == torch.float64
    assert -1 <= uniform.min() < -0.9
    assert 2.9 < uniform.max() < 3
    drawn_once = ours("Bernoulli", np.full(20000, 0.3, dtype=np.float32), dtype=TensorProto.BOOL)
    assert drawn_once.float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_classes_are_drawn_by_their_logarithms():
    torch.manual_seed(0)
    logs = np.log(np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 8.0]]) + 1e-30) + 5
    got = ours("Multinomial", logs, sample_size=4000)
    assert (got.dtype, got.shape) == (torch.int32, (2, 4000))
    assert (got[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (got[1] == 2).all()


RANDOM = [
    ("RandomNormal", [], {"shape": [5]}),
    ("RandomUniform", [], {"shape": [5], "dtype": TensorProto.DOUBLE}),
    ("RandomNormalLike", [drawn(5)], {"dtype": TensorProto.FLOAT16}),
    ("RandomUniformLike", [drawn(5)], {}),
    ("Bernoulli", [np.full(40, 0.5)], {}),
    ("Multinomial", [drawn(1, 9)], {"sample_size": 20}),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes"), RANDOM, ids=[row[0] for row in RANDOM])
def test_a_seed_makes_the_call_repeatable_and_leaves_the_rest_alone(kind, inputs, attributes):
    state = torch.get_rng_state()
    first, second = (ours(kind, *inputs, seed=4.0, **attributes) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, ours(kind, *inputs, **attributes))


@pytest.mark.parametrize(
    ("opset", "mask"), [(7, torch.float32), (10, torch.bool), (12, torch.bool)]
)
def test_dropout_in_inference(opset, mask):
    x = drawn(3)
    given = {"ratio": 0.9} if opset < 12 else {}
    y, kept = ours("Dropout", x, opset=opset, outputs=2, **given)
    assert y.tolist() == x.tolist()
    assert (kept.dtype, kept.tolist()) == (mask, [1, 1, 1])


@pytest.mark.parametrize("outputs", [1, 2])
def test_dropout_in_training(outputs):
    torch.manual_seed(0)
    x, ratio = np.ones(10000, dtype=np.float32), np.float32(0.25)
    result = ours("Dropout", x, np.array(ratio), np.array(True), opset=13, outputs=outputs)
    y = result[0] if outputs == 2 else result
    assert y.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    if outputs == 2:
        assert torch.equal(result[1], y > 0)
    with pytest.raises(NodeError, match=r"ratio should be in \[0, 1\), not 1"):
        ours("Dropout", x, np.float32(1.0), np.array(True), opset=13)


def test_float8_round_trips():
    for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
        x = torch.tensor([0.5, -2.0, np.nan]).to(kind)
        assert to_numpy(x).astype(np.float32)[:2].tolist() == [0.5, -2.0]
