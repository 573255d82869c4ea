from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import jvp

from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.node_models import agree, check_derivatives, drawn, function, ours

FLOATS = (np.float16, np.float32, np.float64)
INTS = (np.int8, np.uint8, np.int32, np.int64)


def of(values: object, dtype: object = np.float32) -> np.ndarray:
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize("kind", ["Abs", "Neg", "Sign", "Sqrt", "Exp", "Log", "Reciprocal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_one_tensor(kind, dtype):
    agree(kind, drawn(3, 4, dtype=dtype) + (2.5 if kind in ("Sqrt", "Log") else 0), opset=13)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_broadcasts(kind, dtype):
    b = of([3, -2, 1, 7], dtype)
    for opset in (7, 13, 14):
        agree(kind, (4 * drawn(2, 3, 4)).astype(dtype), b, opset=opset)


def test_integer_quotients_are_truncated():
    for dtype in (np.int8, np.int32, np.int64):
        least = np.iinfo(dtype).min
        a, b = of([7, -7, 7, -7, least, 5], dtype), of([2, 2, -2, -2, -1, -1], dtype)
        assert ours("Div", a, b, opset=14).tolist() == [3, -3, -3, 3, least, -5]
    assert ours("Div", of([255, 7], np.uint8), of([255, 2], np.uint8), opset=14).tolist() == [1, 3]


def test_unsigned_integers_keep_their_type():
    for dtype in (np.uint16, np.uint32, np.uint64):
        bits = 8 * np.dtype(dtype).itemsize
        total = ours("Add", of([2**bits - 1, 1], dtype), of([2, 1], dtype), opset=14)
        assert total.tolist() == [1, 2]
        assert str(total.dtype) == f"torch.{np.dtype(dtype).name}"
        assert ours("BitwiseNot", of([0], dtype)).tolist() == [2**bits - 1]


@pytest.mark.parametrize(("fmod", "want"), [(0, [1, 1, -1, -1]), (1, [1, -1, 1, -1])])
def test_remainders(fmod, want):
    a, b = [7, -7, 7, -7], [2, 2, -2, -2]
    for dtype in (*INTS[2:], *FLOATS):
        got = ours("Mod", of(a, dtype), of(b, dtype), opset=28, fmod=fmod)
        assert got.tolist() == want


def test_remainders_at_infinity():
    inf = np.inf
    got = ours("Mod", of([1, -1, inf, 1]), of([inf, inf, 2, 0]), opset=28)
    assert got[:2].tolist() == [1, inf]
    assert got[2:].isnan().all()


@pytest.mark.parametrize("base", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("exponent", [np.float32, np.int32, np.int64])
def test_powers_have_the_type_of_the_base(base, exponent):
    x = of([[1, 2, 3], [4, 5, 6]], base)
    for y in (of(2, exponent), of([0, 1, 3], exponent), of([[[2]]], exponent)):
        agree("Pow", x, y, opset=15)


def test_powers_of_negative_numbers_have_a_gradient():
    x = torch.tensor([-3.0, 0.0, 2.0], requires_grad=True)
    function("Pow")(x, torch.tensor(2.0)).sum().backward()
    assert x.grad.tolist() == [-6, 0, 4]


def test_a_scalar_exponent_is_differentiated_where_asked():
    power = function("Pow")
    x, y = torch.tensor([1.5, 2.5]).double(), torch.tensor(1.7).double()
    check_derivatives(power, x, y)
    _, slope = jvp(lambda y: power(x, y), (y,), (torch.ones_like(y),))
    torch.testing.assert_close(slope, x**y * x.log())


@pytest.mark.parametrize(
    ("kind", "x", "y", "want"),
    [
        ("RIGHT", of([-8, 7, -1, 5], np.int8), of([1, 1, 9, -1], np.int8), [-4, 3, -1, 0]),
        ("LEFT", of([-8, 7, 1, 64], np.int8), of([1, 8, -1, 2], np.int8), [-16, 0, 0, 0]),
        ("RIGHT", of([255, 255], np.uint8), of([8, 3], np.uint8), [0, 31]),
        ("LEFT", of([1, 3], np.uint16), of([16, 15], np.uint16), [0, 2**15]),
        ("RIGHT", of([2**31], np.uint32), of([31], np.uint32), [1]),
    ],
)
def test_shifts(kind, x, y, want):
    assert ours("BitShift", x, y, opset=28, direction=kind).tolist() == want


def test_a_direction_must_be_known():
    with pytest.raises(NodeError, match="direction should be LEFT or RIGHT, not 'UP'"):
        ours("BitShift", of([1], np.uint8), of([1], np.uint8), direction="UP")


@pytest.mark.parametrize("kind", ["Max", "Min", "Sum", "Mean"])
def test_functions_of_many_tensors(kind):
    for opset in (8, 13):
        agree(kind, drawn(2, 1, 3), drawn(4, 1, seed=1), drawn(3, seed=2), opset=opset)
        agree(kind, drawn(2, 3), opset=opset)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8])
def test_clip_by_inputs(dtype):
    x, low, high = of([-3, -1, 0, 2, 5], dtype), of(-1, dtype), of(2, dtype)
    for bounds in ((low, high), (low, None), (None, high), (None, None), (high, low)):
        agree("Clip", x, *bounds, opset=13)


def test_clip_by_attributes():
    x = of([-np.inf, -3, 0.5, 7, np.inf])
    agree("Clip", x[1:-1], opset=6, min=-1.0, max=0.25)
    assert ours("Clip", x, opset=10, max=2.0).tolist() == [-np.inf, -3, 0.5, 2, 2]
    assert ours("Clip", x.astype(np.float16), opset=10).tolist() == x.tolist()


def test_clipping_as_activations_are_exported_has_their_gradient():
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0], requires_grad=True)
    function("Clip")(x, torch.tensor(0.0), torch.tensor(6.0)).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 0, 0]


def test_clip_is_differentiated_by_its_bounds():
    x = torch.tensor([-3.0, 0.1, 2.0])
    check_derivatives(function("Clip"), x, torch.tensor(-1.0), torch.tensor(1.0))
    with pytest.raises(NodeError, match=r"one number, not of shape \[2\]"):
        ours("Clip", of([1, 2]), of([0, 1]), opset=13)


def test_infinities_by_sign():
    x = of([-np.inf, 0, np.inf, np.nan])
    for negative, positive in ((0, 0), (0, 1), (1, 0), (1, 1)):
        agree("IsInf", x, detect_negative=negative, detect_positive=positive)


def test_rounding_goes_to_even():
    assert ours("Round", of([0.5, 1.5, 2.5, -2.5]), opset=11).tolist() == [0, 2, 2, -2]


def test_strings_are_compared_and_chosen():
    a, b = np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object)
    same = function("Equal")(a, b)
    assert same.tolist() == [True, False]
    assert function("Where")(same, a, b).tolist() == ["a", "c"]


SMOOTH = [
    "Acos",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Sin",
    "Sinh",
    "Tan",
    "Tanh",
]


@pytest.mark.parametrize("kind", SMOOTH)
def test_derivatives_of_smooth_functions(kind):
    check_derivatives(function(kind), torch.from_numpy(drawn(3)) / 3)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Mean", "Sum"])
def test_derivatives_of_functions_of_two(kind):
    a, b = torch.from_numpy(drawn(2, 3)), torch.from_numpy(drawn(3, seed=1)) + 3
    check_derivatives(function(kind), a, b)
