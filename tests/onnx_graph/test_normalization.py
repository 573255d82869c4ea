from __future__ import annotations

import pytest
import torch

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.single_node import (
    check_gradients,
    check_same,
    functions_called,
    ours,
    single_node,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def batch(*shape, dtype=torch.float32):
    channels = [torch.randn(shape, dtype=dtype) for _ in range(3)]
    x = torch.randn(2, 4, 3, 5, dtype=dtype)
    return [x, *channels, torch.rand(shape, dtype=dtype) + 0.5]


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization_is_onnxruntimes(opset):
    check_same("BatchNormalization", batch(4), opset=opset, epsilon=1e-3)


def test_batch_normalization_by_element():
    check_same("BatchNormalization", batch(4, 3, 5), opset=7, spatial=0)


def test_training_moves_the_statistics():
    check_same("BatchNormalization", batch(4), opset=15, outputs=3, training_mode=1, momentum=0.7)


def test_training_before_opset_14_is_by_the_outputs():
    inputs = batch(4)
    found = ours("BatchNormalization", inputs, opset=9, outputs=5, momentum=0.7)
    expected = ours(
        "BatchNormalization", inputs, opset=15, outputs=3, training_mode=1, momentum=0.7
    )
    for got, want in zip(found, expected, strict=False):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(found[3], inputs[0].mean((0, 2, 3)))
    torch.testing.assert_close(found[4], inputs[0].var((0, 2, 3), correction=0))


@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization_differentiates_in_the_statistics_too(training):
    inputs = batch(4, dtype=torch.float64)
    inputs[0] = inputs[0][:, :, :1, :2]
    check_gradients("BatchNormalization", inputs, opset=15, training_mode=training)


def test_batch_normalization_of_halves_by_float32():
    inputs = batch(4)
    exact = ours("BatchNormalization", inputs, opset=15)
    result = ours("BatchNormalization", [inputs[0].half(), *inputs[1:]], opset=15)
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.float(), exact, rtol=1e-2, atol=1e-2)


def test_batch_normalization_of_single_values():
    x, *channels = batch(1)
    x = x.flatten()
    found = ours("BatchNormalization", [x, *channels], opset=15)
    as_images = ours("BatchNormalization", [x[:, None], *channels], opset=15)
    torch.testing.assert_close(found, as_images[:, 0])


@pytest.mark.parametrize(
    ("name", "shapes", "opset", "settings"),
    [
        ("InstanceNormalization", [(2, 4, 3, 5), (4,), (4,)], 7, {"epsilon": 0.1}),
        ("GroupNormalization", [(2, 4, 3), (2,), (2,)], 18, {"num_groups": 2}),
        ("GroupNormalization", [(2, 4, 3), (4,), (4,)], 21, {"num_groups": 2}),
        ("LpNormalization", [(2, 4, 3)], 11, {"p": 1, "axis": 1}),
        ("MeanVarianceNormalization", [(2, 4, 3, 5)], 9, {}),
        ("MeanVarianceNormalization", [(2, 4, 3, 5)], 13, {"axes": [1, 2]}),
        ("LRN", [(2, 6, 3, 3)], 13, {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 1.3}),
        ("RMSNormalization", [(2, 4, 3), (3,)], 23, {}),
    ],
)
def test_onnxruntime_agrees_and_derivatives_are_right(name, shapes, opset, settings):
    inputs = [torch.randn(each) for each in shapes]
    check_same(name, inputs, opset=opset, **settings)
    small = [each[:, :, :2, :2].double() if each.dim() == 4 else each.double() for each in inputs]
    check_gradients(name, small, opset=opset, **settings)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_lrn_is_its_formula(size):
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    found = ours("LRN", [x], opset=13, size=size, alpha=0.5, beta=0.6, bias=1.3)
    for c in range(6):
        around = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        scale = (1.3 + 0.5 / size * around.square().sum(1)) ** 0.6
        torch.testing.assert_close(found[:, c], x[:, c] / scale)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization_and_its_statistics(axis):
    shape = (2, 4, 3, 5)
    inputs = [torch.randn(shape), torch.randn(shape[axis:]), torch.randn(shape[axis:])]
    check_same("LayerNormalization", inputs, opset=17, outputs=3, axis=axis)


def test_layer_normalization_with_scales_to_broadcast():
    inputs = [torch.randn(2, 4, 3), torch.randn(3), torch.randn(4, 1)]
    check_same("LayerNormalization", inputs, opset=17, outputs=3, axis=1)
    doubles = [each.double() for each in inputs]
    check_gradients("LayerNormalization", doubles, opset=17, axis=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_of_halves_are_stashed_as_float32(dtype):
    x = torch.randn(3, 8).to(dtype)
    y, mean, inverse = ours(
        "LayerNormalization", [x, torch.ones(8, dtype=dtype)], opset=17, outputs=3
    )
    assert (y.dtype, mean.dtype, inverse.dtype) == (dtype, torch.float32, torch.float32)
    torch.testing.assert_close(mean[:, 0], x.float().mean(1))
    normal = ours("RMSNormalization", [x, torch.ones(8)], opset=23)
    assert normal.dtype == torch.float32  # the scale's type


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    x = torch.zeros(2, 3, requires_grad=True)
    model = load_onnx(single_node("LpNormalization", [x], opset=22))
    y = model(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 3))
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "opset", "given", "settings", "expected"),
    [
        ("BatchNormalization", 15, [4] * 4, {}, "batch_norm"),
        ("InstanceNormalization", 6, [4] * 2, {}, "instance_norm"),
        ("GroupNormalization", 21, [4] * 2, {"num_groups": 2}, "group_norm"),
        ("LayerNormalization", 17, [5] * 2, {}, "layer_norm"),
        ("RMSNormalization", 23, [5], {}, "rms_norm"),
    ],
)
def test_torchs_own_function_is_called(name, opset, given, settings, expected):
    inputs = [torch.randn(2, 4, 3, 5), *[torch.ones(n) for n in given]]
    model = load_onnx(single_node(name, inputs, opset=opset, **settings))
    assert expected in functions_called(model, *inputs)


@pytest.mark.parametrize(
    ("name", "shapes", "settings", "said"),
    [
        ("LpNormalization", [(2, 3)], {"p": 3}, "expected p to be 1 or 2, found 3"),
        ("LayerNormalization", [(2, 3), (3,)], {"stash_type": 99}, "stash_type"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(name, shapes, settings, said):
    with pytest.raises(NodeError, match=said):
        ours(name, [torch.randn(each) for each in shapes], opset=17, **settings)
