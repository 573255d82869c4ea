from __future__ import annotations

import numpy as np
import pytest
import torch

from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.node_models import agree, check_derivatives, drawn, function, ours


@pytest.mark.parametrize("bias", [None, (), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(bias, turned):
    a, b = drawn(3, 4), drawn(4, 5, seed=1)
    a, b = (m.T.copy() if t else m for m, t in zip((a, b), turned, strict=True))
    c = None if bias is None else drawn(*bias, seed=2)
    opset = 11 if bias is None else 9
    for scales in ({}, {"alpha": 0.5, "beta": 2.0}):
        agree("Gemm", a, b, c, opset=opset, transA=turned[0], transB=turned[1], **scales)


def test_gemm_of_integers_and_of_too_many_dimensions():
    a = np.array([[1, 2], [3, 4]], dtype=np.int32)
    got = ours("Gemm", a, a, a[0], alpha=0.5, beta=3.0)
    assert (got.dtype, got.tolist()) == (torch.int32, [[6, 11], [10, 17]])
    with pytest.raises(NodeError, match="matrices, not of 3 and 2 dimensions"):
        ours("Gemm", drawn(1, 2, 2), drawn(2, 2))


def test_derivatives_of_products():
    a, b, c = (torch.from_numpy(drawn(2, 2, seed=seed)) for seed in range(3))
    check_derivatives(function("Gemm"), a, b, c[0])
    check_derivatives(lambda a, b, c: function("Gemm")(a, b, c, alpha=0.5, transA=1), a, b, c)
    check_derivatives(function("MatMul"), a, b)
    check_derivatives(lambda a, b: function("Einsum")(a, b, equation="ij,kj"), a, b)
    check_derivatives(function("Det"), a)
    check_derivatives(lambda a: function("Trilu")(a, torch.tensor(1), upper=0), a)


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
def test_integer_products(kinds):
    values = np.random.default_rng(0).integers(0, 120, (2, 3, 4, 5))
    a, b = values[0, 0].astype(kinds[0]), values[1, 0].T.astype(kinds[1])
    agree("MatMulInteger", a, b, opset=10)
    agree("MatMulInteger", a, b, np.array(3, kinds[0]), np.array(7, kinds[1]), opset=10)
    columns = np.arange(4, dtype=kinds[1])
    agree("MatMulInteger", a, b, None, columns, opset=10)
    rows = np.arange(4, dtype=kinds[0])
    got = ours("MatMulInteger", a, b, rows, columns, opset=10)
    want = (a.astype(int) - rows[:, None].astype(int)) @ (b.astype(int) - columns.astype(int))
    assert got.dtype == torch.int32
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij, bjk -> bik", [(2, 3, 4), (2, 4, 5)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("zA,A", [(2, 3), (3,)]),
        ("i,i->", [(3,), (3,)]),
    ],
)
def test_einsum(equation, shapes):
    arrays = [drawn(*shape, seed=i) for i, shape in enumerate(shapes)]
    got = ours("Einsum", *arrays, equation=equation)
    np.testing.assert_allclose(got.numpy(), np.einsum(equation, *arrays), rtol=1e-5, atol=1e-6)


def test_determinants_in_half_formats():
    x = np.array([[[2, 1], [1, 3]]], dtype=np.float16)
    got = ours("Det", x, opset=22)
    assert (got.dtype, got.tolist()) == (torch.float16, [5])


@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(upper):
    for k in (None, -4, -1, 0, 1, 4):
        diagonal = None if k is None else np.array(k)
        agree("Trilu", drawn(2, 3, 4), diagonal, opset=14, upper=upper)
