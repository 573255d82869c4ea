from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.onnx_graph.node_models import agree, check_derivatives, drawn, function, ours

KINDS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


def axes_given(
    kind: str, axes: list[int], opset: int
) -> tuple[list[np.ndarray], dict[str, object]]:
    """The axes as an attribute or as an input, as the version has it."""
    if opset < (13 if kind == "Sum" else 18):
        return [], {"axes": axes}
    return [np.array(axes, dtype=np.int64)], {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_axes_by_version(kind, opset):
    x = drawn(2, 3, 4) + 2.5
    agree(f"Reduce{kind}", x, opset=opset)
    agree(f"Reduce{kind}", x, opset=opset, keepdims=0)
    for axes in ([1], [0, 2], [-1, 0]):
        if opset < 11 and min(axes) < 0:
            continue
        inputs, attributes = axes_given(kind, axes, opset)
        for keepdims in (0, 1):
            agree(f"Reduce{kind}", x, *inputs, opset=opset, keepdims=keepdims, **attributes)


NOTHING = {
    "L1": np.abs,
    "L2": np.abs,
    "LogSum": np.log,
    "SumSquare": np.square,
    **dict.fromkeys(["LogSumExp", "Max", "Mean", "Min", "Prod", "Sum"], lambda x: x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_over_no_axes_the_rest_is_still_done(kind):
    x = drawn(2, 3) + 2.5
    for axes in (None, np.array([], dtype=np.int64)):
        got = ours(f"Reduce{kind}", x, axes, noop_with_empty_axes=1)
        np.testing.assert_allclose(got.numpy(), NOTHING[kind](x), rtol=1e-6)
        assert ours(f"Reduce{kind}", x, axes).shape == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_integers_and_scalars(kind):
    x = np.array([[5, 2, 4], [1, 7, 3]], dtype=np.int32)
    agree(f"Reduce{kind}", x, np.array([1]), opset=18)
    assert ours(f"Reduce{kind}", np.float32(2)).shape == ()


def test_the_extremes_of_nothing_and_of_booleans():
    empty, axes = np.zeros((2, 0)), np.array([1])
    for dtype, low, high in (
        (np.float32, -np.inf, np.inf),
        (np.int8, -128, 127),
        (np.uint32, 0, 2**32 - 1),
        (bool, False, True),
    ):
        x = empty.astype(dtype)
        assert ours("ReduceMax", x, axes, keepdims=0).tolist() == [low, low]
        assert ours("ReduceMin", x, axes, keepdims=0).tolist() == [high, high]
    assert ours("ReduceMax", np.array([[True, False]]), axes).tolist() == [[True]]


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind):
    call = function(f"Reduce{kind}")
    x = torch.from_numpy(drawn(2, 3, 2)) + 3
    check_derivatives(lambda x: call(x, torch.tensor([0, 2])), x)


def test_the_norm_of_nothing_but_zeros_has_a_gradient():
    x = torch.zeros(3, requires_grad=True)
    function("ReduceL2")(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_indices_of_extremes(kind, keepdims):
    x = np.array([[2, 1, 2, 1], [3, 3, 0, 0]], dtype=np.float32)
    for axis in (0, 1, -1):
        agree(kind, x, opset=11, axis=axis, keepdims=keepdims)
        agree(kind, x, opset=13, axis=axis, keepdims=keepdims, select_last_index=1)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums_and_products(exclusive, reverse):
    way = {"exclusive": exclusive, "reverse": reverse}
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        agree("CumSum", (3 * drawn(2, 3, 4)).astype(dtype), np.array(-2), opset=14, **way)
    x = torch.from_numpy(drawn(2, 3))
    for kind in ("CumSum", "CumProd"):
        call = function(kind)
        check_derivatives(lambda x, call=call: call(x, torch.tensor(1), **way), x)
        assert call(torch.zeros(2, 0), torch.tensor(1), **way).shape == (2, 0)
    order = slice(None, None, -1) if reverse else slice(None)
    whole = x.numpy()[:, order].cumprod(1)
    want = np.c_[np.ones((2, 1)), whole[:, :-1]] if exclusive else whole
    got = ours("CumProd", x.numpy(), np.array(1), opset=26, **way)
    np.testing.assert_allclose(got.numpy(), want[:, order], rtol=1e-6)
