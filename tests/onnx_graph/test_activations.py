from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.node_models import agree, check_derivatives, drawn, function, ours

TABLE = [
    ("Relu", 14, {}),
    ("LeakyRelu", 6, {}),
    ("LeakyRelu", 16, {"alpha": 0.3}),
    ("Elu", 6, {"alpha": 1.5}),
    ("Selu", 6, {}),
    ("Selu", 6, {"alpha": 1.1, "gamma": 2.0}),
    ("Celu", 12, {"alpha": 0.7}),
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("HardSigmoid", 6, {}),
    ("HardSigmoid", 6, {"alpha": 1 / 6}),
    ("HardSwish", 14, {}),
    ("Mish", 18, {}),
    ("Softplus", 1, {}),
    ("Softsign", 1, {}),
    ("Sigmoid", 13, {}),
    ("ThresholdedRelu", 10, {"alpha": 0.5}),
    ("Shrink", 9, {"lambd": 0.8}),
    ("Shrink", 9, {"lambd": 0.5, "bias": 0.5}),
    ("Shrink", 9, {"lambd": 0.5, "bias": 0.2}),
]
IDS = [f"{kind}-{'-'.join(attributes)}" for kind, _, attributes in TABLE]


@pytest.mark.parametrize(("kind", "since", "attributes"), TABLE, ids=IDS)
def test_values_are_onnxruntimes(kind, since, attributes):
    agree(kind, 2 * drawn(3, 5), opset=max(since, 7), **attributes)


@pytest.mark.parametrize(("kind", "since", "attributes"), TABLE, ids=IDS)
def test_derivatives(kind, since, attributes):
    call = function(kind)
    twice = attributes != {"alpha": 1 / 6}  # of hardsigmoid torch has no second derivative
    check_derivatives(lambda x: call(x, **attributes), torch.from_numpy(2 * drawn(7)), twice=twice)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in TABLE} | {"Swish", "Softmax"}))
def test_half_formats_stay_what_they_are(kind, dtype):
    x = torch.from_numpy(drawn(2, 3))
    got = function(kind)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), function(kind)(x), rtol=0.02, atol=0.02)


def test_softplus_is_exact_in_double():
    x = torch.tensor([21.0, 39.0, 800.0], dtype=torch.float64)
    assert torch.equal(function("Softplus")(x), x + torch.log1p(torch.exp(-x)))


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (3, 4, 1, 1), (5,), (2, 3, 4, 5, 5)[1:]])
def test_prelu_slopes(shape):
    x = drawn(2 if len(shape) < 4 else 3, 4, 5, 5)
    slope = drawn(*shape, seed=1)
    got = ours("PRelu", x, slope, opset=16)
    np.testing.assert_allclose(got.numpy(), np.where(x < 0, slope * x, x), rtol=1e-6)


def test_prelu_of_integers_and_its_derivatives():
    got = ours("PRelu", np.array([-3, 2]), np.array([2, 2]), opset=16)
    assert got.tolist() == [-6, 2]
    x, slope = torch.from_numpy(drawn(2, 3, 2)), torch.from_numpy(drawn(3, 1, seed=1))
    check_derivatives(function("PRelu"), x, slope)


def test_shrink_of_integers():
    got = ours("Shrink", np.array([-3, -1, 0, 1, 3], dtype=np.int8), lambd=1.5, bias=1.0)
    assert (got.dtype, got.tolist()) == (torch.int8, [-2, 0, 0, 0, 2])


def test_swiglu():
    a, b = torch.from_numpy(drawn(3)), torch.from_numpy(drawn(3, seed=1))
    call = function("SwiGLU")
    torch.testing.assert_close(call(a, b), F.silu(a) * b)
    check_derivatives(lambda a, b: call(a, b, alpha=1.7), a, b)
    with pytest.raises(NodeError, match=r"one shape, not \[3\] and \[1\]"):
        ours("SwiGLU", drawn(3), drawn(1), opset=28)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_over_an_axis_and_before_opset_13_from_it_on(kind):
    x = drawn(2, 3, 4)
    for opset in (7, 11, 12, 13):
        agree(kind, x, opset=opset)
        for axis in (0, 1, 2) if opset < 11 else (-3, -2, -1, 0, 1, 2):
            agree(kind, x, opset=opset, axis=axis)
    assert ours(kind, x, opset=11).flatten(1).exp().shape == (2, 12)
    with pytest.raises(NodeError, match="axis 3 of a tensor of 2 dimensions"):
        ours(kind, drawn(2, 2), opset=11, axis=3)


def test_hardmax_takes_the_first_of_several():
    assert ours("Hardmax", np.array([[1.0, 3, 3]])).tolist() == [[0, 1, 0]]
