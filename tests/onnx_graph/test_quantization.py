from __future__ import annotations

import pytest
import torch
from onnx import TensorProto, helper
from torch.autograd import forward_ad

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import NodeError
from gradaudit.onnx_graph.operators.quantization import dequantize_linear, quantize_linear
from tests.onnx_graph.single_node import check_same, ours

BYTES = [torch.uint8, torch.int8]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def integers(kind, *shape):
    limits = torch.iinfo(kind)
    return torch.randint(limits.min, limits.max + 1, shape).to(kind)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_by_axis_is_onnxruntimes(kind, axis):
    scale, zero = torch.rand(3) + 0.05, integers(kind, 3)
    x = torch.randn(3, 3, 3) * 20
    check_same("QuantizeLinear", [x, scale, zero], opset=13, axis=axis)
    check_same("DequantizeLinear", [integers(kind, 3, 3, 3), scale, zero], opset=13, axis=axis)


@pytest.mark.parametrize("kind", [*BYTES, torch.int16, torch.uint16])
def test_by_tensor_is_onnxruntimes(kind):
    x, scale = torch.randn(50) * 400, torch.tensor(0.01)
    x[:2] = torch.tensor([float("inf"), float("-inf")])
    zero = torch.tensor(7).to(kind)
    check_same("QuantizeLinear", [x, scale, zero], opset=21)
    check_same("DequantizeLinear", [integers(kind, 50), scale, zero], opset=21)


@pytest.mark.parametrize("block", [3, 4])
def test_by_block_is_onnxruntimes(block):
    scale = torch.rand(5, 2) + 0.01
    check_same("QuantizeLinear", [torch.randn(5, 6), scale], opset=21, block_size=block, axis=1)
    given = [integers(torch.int8, 5, 6), scale]
    check_same("DequantizeLinear", given, opset=21, block_size=block, axis=1)


def test_types_asked_for():
    x, scale = torch.randn(5), torch.tensor(0.01)
    for number, kind in ((TensorProto.INT8, torch.int8), (TensorProto.UINT16, torch.uint16)):
        assert ours("QuantizeLinear", [x, scale], opset=21, output_dtype=number).dtype == kind
    assert ours("QuantizeLinear", [x, scale], opset=10).dtype == torch.uint8
    by_half = ours("QuantizeLinear", [x, scale.half()], opset=23, precision=TensorProto.FLOAT)
    exact = (x / scale.half().float()).round().clamp(0, 255)
    assert torch.equal(by_half, exact.to(torch.uint8))
    values = integers(torch.int8, 5)
    assert ours("DequantizeLinear", [values, scale.half()], opset=19).dtype == torch.float16
    wide = ours("DequantizeLinear", [values, scale], opset=23, output_dtype=TensorProto.DOUBLE)
    assert torch.equal(wide, values.double() * scale.double())
    whole = integers(torch.int32, 5)
    check_same("DequantizeLinear", [whole, scale], opset=10)


@pytest.mark.parametrize("shift", [-3, 0, 3])
def test_dynamic_quantization_is_onnxruntimes(shift):
    check_same("DynamicQuantizeLinear", [torch.randn(20) + shift], opset=11, outputs=3)


@pytest.mark.parametrize("kinds", [BYTES, BYTES[:1] * 2, BYTES[1:] * 2])
def test_products_of_integers_are_onnxruntimes(kinds):
    x_kind, w_kind = kinds
    x, w = integers(x_kind, 1, 4, 6, 6), integers(w_kind, 6, 2, 3, 3)
    zero, settings = integers(x_kind, 1)[0], {"group": 2, "pads": [1, 1, 0, 2], "opset": 10}
    check_same("ConvInteger", [x, w, zero, integers(w_kind, 1)[0]], **settings)
    scales = (torch.tensor(0.02), torch.rand(6) * 0.1, torch.tensor(3.0))
    bias, zeros = integers(torch.int16, 6).to(torch.int32), torch.zeros(6, dtype=w_kind)
    inputs = [x, scales[0], zero, w, scales[1], zeros, scales[2], zero, bias]
    check_same("QLinearConv", inputs, **settings)
    a, b = integers(x_kind, 2, 4, 5), integers(w_kind, 5, 6)
    inputs = [a, scales[0], zero, b, scales[1], zeros, scales[2], zero]
    check_same("QLinearMatMul", inputs, opset=10)


def test_products_by_row_and_column_are_their_formula():
    a, b = integers(torch.uint8, 3, 5), integers(torch.int8, 5, 2)
    row, column = torch.rand(3) * 0.1, torch.rand(2) * 0.1
    a_zero, b_zero = integers(torch.uint8, 3), integers(torch.int8, 2)
    y_scale, y_zero = torch.tensor(2.0), torch.tensor(3, dtype=torch.int8)
    found = ours("QLinearMatMul", [a, row, a_zero, b, column, b_zero, y_scale, y_zero], opset=21)
    left = (a.double() - a_zero[:, None]) * row[:, None]
    right = (b.double() - b_zero) * column
    expected = (left @ right / 2).round() + 3
    assert torch.equal(found, expected.clamp(-128, 127).to(torch.int8))


@pytest.mark.parametrize(
    ("kind", "largest", "beyond"),
    [(torch.float8_e4m3fn, 448.0, torch.nan), (torch.float8_e5m2, 57344.0, torch.inf)],
)
def test_float8_saturates_or_overflows(kind, largest, beyond):
    x = torch.tensor([0.3, -1e6, float("inf")], requires_grad=True)
    scale, zero = torch.tensor(2.0), torch.zeros((), dtype=kind)
    saturated = quantize_linear(x, scale, zero)
    assert saturated.dtype == kind
    expected = torch.tensor([0.15, -largest, largest])
    torch.testing.assert_close(saturated.float(), expected, rtol=0.1, atol=0)
    over = quantize_linear(x, scale, zero, saturate=0).float()[1:].abs()
    torch.testing.assert_close(over, torch.tensor([beyond, beyond]), equal_nan=True)
    y = dequantize_linear(saturated, scale, zero)
    assert torch.equal(y, saturated.float() * 2)
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([1.0, 0.0, 0.0]))


def chain(*nodes, inputs, output):
    """A model of nodes (operator, inputs, outputs, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(name, given, made, **rest) for name, given, made, rest in nodes],
        "chain",
        [helper.make_empty_tensor_value_info(each) for each in inputs],
        [helper.make_empty_tensor_value_info(output)],
    )
    return load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]))


def test_gradients_pass_the_rounding_where_nothing_saturates():
    model = chain(
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("MaxPool", ["q"], ["p"], {"kernel_shape": [1]}),
        ("DequantizeLinear", ["p", "s", "z"], ["y"], {}),
        inputs=["x", "s", "z"],
        output="y",
    )
    x = torch.tensor([[[-9.0, -0.3, 0.26, 9.0]]], requires_grad=True)
    scale, zero = torch.tensor(0.02, requires_grad=True), torch.tensor(3, dtype=torch.int8)
    y = model(x, scale, zero)
    assert torch.equal(y, scale * torch.tensor([[[-131.0, -15.0, 13.0, 124.0]]]))
    (y * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert torch.equal(x.grad, torch.tensor([[[0.0, 2.0, 3.0, 0.0]]]))
    # what saturates grows with the scale; of the others, what was rounded away
    rounded = 2 * (-15 + 0.3 / 0.02) + 3 * (13 - 0.26 / 0.02)
    torch.testing.assert_close(scale.grad, torch.tensor(-131.0 + 4 * 124 + rounded))


def test_gradients_pass_a_quantized_convolution():
    model = chain(
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z"], ["c"], {}),
        ("DequantizeLinear", ["c", "s", "z"], ["y"], {}),
        inputs=["x", "s", "z", "w"],
        output="y",
    )
    x = (torch.rand(1, 1, 6) - 0.5).requires_grad_()
    scale, w = torch.tensor(0.02), torch.tensor([[[10, -20, 30]]], dtype=torch.int8)
    y = model(x, scale, torch.tensor(0, dtype=torch.int8), w)
    y.sum().backward()
    expected = torch.autograd.functional.jacobian(
        lambda x: torch.nn.functional.conv1d(x, w.float() * 0.02).sum(), x.detach()
    )
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_derivatives_along_a_direction_pass_too():
    model = chain(
        ("QuantizeLinear", ["x", "s"], ["q"], {}),
        ("DequantizeLinear", ["q", "s"], ["y"], {}),
        inputs=["x", "s"],
        output="y",
    )
    x, direction = torch.rand(4), torch.randn(4)
    with forward_ad.dual_level():
        y = model(forward_ad.make_dual(x, direction), torch.tensor(0.01))
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, direction)


@pytest.mark.parametrize(
    ("name", "scale", "settings", "said"),
    [
        ("QuantizeLinear", torch.ones(2), {}, r"found shape \[2\] for \[4, 3\]"),
        ("QuantizeLinear", torch.ones(()), {"output_dtype": 1}, "expected a quantized type"),
        ("QuantizeLinear", torch.ones(()), {"output_dtype": 99}, "output_dtype .* found 99"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(name, scale, settings, said):
    with pytest.raises(NodeError, match=said):
        ours(name, [torch.randn(4, 3), scale], opset=21, **settings)
