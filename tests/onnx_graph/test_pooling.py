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


WINDOWS = [
    {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    {"kernel_shape": [3], "strides": [2], "pads": [2, 0], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "pads": [0, 2, 1, 1]},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "strides": [1, 3], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "VALID"},
    {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 0, 1, 0, 1, 1]},
    {"kernel_shape": [1, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1},
]
SPREAD = [
    {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 0, 2, 1], "ceil_mode": 1},
    {"kernel_shape": [2], "dilations": [3], "strides": [2]},
]


def image(settings, dtype=torch.float32):
    return torch.randn(2, 3, *[8, 7, 6][: len(settings["kernel_shape"])], dtype=dtype)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("settings", WINDOWS + SPREAD)
def test_max_pool_and_indices_are_onnxruntimes(settings, storage_order):
    x = image(settings)
    check_same("MaxPool", [x], opset=12, outputs=2, storage_order=storage_order, **settings)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("settings", WINDOWS[:4])
def test_max_pool_of_bytes(settings, dtype):
    x = (image(settings) * 20).abs().to(dtype)
    check_same("MaxPool", [x], opset=12, **settings)


@pytest.mark.parametrize("included", [0, 1])
@pytest.mark.parametrize("settings", WINDOWS + SPREAD)
def test_average_pool_is_onnxruntimes(settings, included):
    check_same("AveragePool", [image(settings)], opset=19, count_include_pad=included, **settings)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("settings", WINDOWS + SPREAD)
def test_lp_pool_is_onnxruntimes(settings, p):
    check_same("LpPool", [image(settings)], opset=18, p=p, **settings)


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("settings", [WINDOWS[2], WINDOWS[3], SPREAD[1]])
def test_pools_differentiate(name, settings):
    x = image(settings, torch.float64)[:1, :1]
    check_gradients(name, [x], opset=19, **settings)


def test_a_norm_of_zeros_has_gradient_zero():
    x = torch.zeros(1, 1, 4, requires_grad=True)
    model = load_onnx(single_node("LpPool", [x], opset=18, kernel_shape=[2]))
    model(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("settings", [WINDOWS[3], WINDOWS[8]])
def test_halves_stay_halves(name, dtype, settings):
    x = image(settings, dtype)
    result = ours(name, [x], opset=22, **settings)
    assert result.dtype == dtype
    exact = ours(name, [x.double()], opset=22, **settings)
    torch.testing.assert_close(result.double(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("MaxPool", {"pads": [1, 1, 1, 1]}, "max_pool2d"),
        ("AveragePool", {"ceil_mode": 1, "pads": [1, 1, 1, 1]}, "avg_pool2d"),
    ],
)
def test_torchs_own_function_is_called(name, settings, expected):
    x = torch.randn(1, 2, 6, 6)
    model = load_onnx(single_node(name, [x], opset=11, kernel_shape=[3, 3], **settings))
    called = functions_called(model, x)
    assert any(each.endswith(expected) for each in called)
    assert "pad" not in called


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 4), (2, 3, 5, 4, 3)])
@pytest.mark.parametrize("name", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools_are_onnxruntimes(name, shape):
    check_same(name, [torch.randn(shape)], opset=11)


@pytest.mark.parametrize("name", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools_take_any_number_of_axes(name):
    x = torch.randn(2, 3, 2, 3, 2, 2, dtype=torch.float64)
    flat = ours(name, [x.flatten(2)], opset=22)
    torch.testing.assert_close(ours(name, [x], opset=22).flatten(2), flat)


def test_max_unpool_puts_back_what_max_pool_took():
    x = torch.randn(2, 3, 6, 4).abs() + 1
    settings = {"kernel_shape": [2, 2], "strides": [2, 2]}
    values, indices = ours("MaxPool", [x], opset=12, outputs=2, **settings)
    back = ours("MaxUnpool", [values, indices], opset=11, **settings)
    assert torch.equal(back.flatten()[indices.flatten()], values.flatten())
    assert (back != 0).sum() == values.numel()
    shape = torch.tensor([2, 3, 7, 5])
    larger = ours("MaxUnpool", [values, indices, shape], opset=11, **settings)
    assert torch.equal(larger[:, :, :6, :4], back)
    check_gradients("MaxUnpool", [values.double(), indices], opset=11, **settings)


def regions(dtype=torch.float32):
    rois = torch.rand(5, 4, dtype=dtype) * 6 - 1
    rois[:, 2:] += rois[:, :2] + 1
    return torch.randn(2, 3, 7, 6, dtype=dtype), rois, torch.tensor([1, 0, 1, 1, 0])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_is_onnxruntimes(mode, ratio):
    settings = {"output_height": 2, "output_width": 3, "mode": mode, "sampling_ratio": ratio}
    check_same("RoiAlign", regions(), opset=10, spatial_scale=0.5, **settings)
    for transformation in ("half_pixel", "output_half_pixel"):
        name = "coordinate_transformation_mode"
        check_same("RoiAlign", regions(), opset=16, **settings, **{name: transformation})


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_differentiates(mode):
    x, rois, images = (each[:2] for each in regions(torch.float64))
    x = x[:, :1, :5, :4]
    settings = {"output_height": 2, "output_width": 2, "mode": mode, "sampling_ratio": 2}
    check_gradients("RoiAlign", [x, rois, images], opset=16, twice=False, **settings)


def test_max_roi_pool_is_onnxruntimes():
    x, rois, images = regions()
    given = torch.cat([images[:, None].float(), rois], 1)
    check_same("MaxRoiPool", [x, given], opset=11, pooled_shape=[2, 3], spatial_scale=0.9)


@pytest.mark.parametrize("name", ["RoiAlign", "MaxRoiPool"])
def test_no_regions_give_nothing(name):
    x = torch.randn(2, 3, 7, 6)
    if name == "RoiAlign":
        inputs, settings = [x, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)], {}
    else:
        inputs, settings = [x, torch.zeros(0, 5)], {"pooled_shape": [1, 1]}
    assert ours(name, inputs, opset=16, **settings).shape == (0, 3, 1, 1)


@pytest.mark.parametrize(
    ("name", "shapes", "settings", "said"),
    [
        ("MaxPool", [(1, 1, 2)], {"kernel_shape": [4]}, "windows of at most 2, found 4"),
        ("AveragePool", [(1, 1, 4)], {"kernel_shape": [2, 2]}, "1 kernel_shape"),
        ("GlobalMaxPool", [(3, 4)], {}, r"expected an input \(N, C, ...\)"),
        ("MaxRoiPool", [(1, 1, 2, 2), (1, 4)], {"pooled_shape": [1, 1]}, r"rois \(R, 5\)"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(name, shapes, settings, said):
    with pytest.raises(NodeError, match=said):
        ours(name, [torch.randn(each) for each in shapes], opset=12, **settings)
