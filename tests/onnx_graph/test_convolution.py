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


CONVOLUTIONS = [
    {"pads": [1, 1]},
    {"pads": [0, 2], "strides": [2], "dilations": [2]},
    {"pads": [1, 0, 2, 1], "strides": [2, 1], "group": 2},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "SAME_LOWER", "strides": [1, 2]},
    {"auto_pad": "VALID", "strides": [3, 2]},
    {"pads": [1, 0, 1, 1, 0, 1], "strides": [1, 2, 1], "kernel_shape": [2, 3, 2]},
]


def sizes_of(settings):
    pads, steps = settings.get("pads"), settings.get("strides", ())
    return [7, 6, 5][: len(pads) // 2 if pads else len(steps)]


def arguments(settings, *, transposed=False, dtype=torch.float32):
    sizes, group = sizes_of(settings), settings.get("group", 1)
    kernel = settings.get("kernel_shape", [3, 2, 2][: len(sizes)])
    shape = (4, 6 // group) if transposed else (6, 4 // group)
    shapes = [(2, 4, *sizes), (*shape, *kernel), (6,)]
    return [torch.randn(each, dtype=dtype) for each in shapes]


@pytest.mark.parametrize("settings", CONVOLUTIONS)
def test_conv_is_onnxruntimes(settings):
    check_same("Conv", arguments(settings), opset=11, **settings)


@pytest.mark.parametrize("settings", CONVOLUTIONS[1:4])
def test_conv_differentiates(settings):
    x, w, b = arguments(
        {"kernel_shape": [2, 2][: len(sizes_of(settings))], **settings}, dtype=torch.float64
    )
    x = x[:1, :, :4] if x.dim() == 3 else x[:1, :, :3, :2]
    check_gradients("Conv", [x, w, b], opset=7, **settings)


TRANSPOSED = [
    {"pads": [1, 1], "strides": [2], "output_padding": [1]},
    {"pads": [0, 1], "strides": [2], "dilations": [2]},
    {"pads": [1, 0, 0, 1], "strides": [2, 3], "group": 2, "output_padding": [1, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [1, 1]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID", "strides": [2, 2]},
    {"strides": [2, 2], "output_shape": [14, 12]},
    {"strides": [2, 2], "output_shape": [16, 13]},  # more than there is: the rest is bias alone
    {"pads": [1, 1, 1, 1, 1, 1], "strides": [2, 2, 2], "kernel_shape": [3, 3, 3]},
]


@pytest.mark.parametrize("settings", TRANSPOSED)
def test_conv_transpose_is_onnxruntimes(settings):
    check_same("ConvTranspose", arguments(settings, transposed=True), opset=11, **settings)


@pytest.mark.parametrize("settings", [TRANSPOSED[1], TRANSPOSED[0]])
def test_conv_transpose_differentiates(settings):
    inputs = arguments(settings, transposed=True, dtype=torch.float64)
    check_gradients("ConvTranspose", inputs, opset=7, **settings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_the_type_stays(name, dtype):
    settings = {"auto_pad": "SAME_UPPER", "strides": [2, 2], "kernel_shape": [3, 3]}
    inputs = arguments(settings, transposed=name == "ConvTranspose", dtype=dtype)
    result = ours(name, inputs, opset=22, **settings)
    exact = ours(name, [each.double() for each in inputs], opset=22, **settings)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("Conv", {"pads": [1, 1, 1, 1]}, ["conv2d"]),
        ("Conv", {"pads": [1, 0, 1, 1]}, ["pad", "conv2d"]),
        ("ConvTranspose", {"pads": [1, 1], "strides": [2]}, ["conv_transpose1d"]),
    ],
)
def test_torchs_own_function_is_called(name, settings, expected):
    inputs = arguments(settings, transposed=name == "ConvTranspose")
    model = load_onnx(single_node(name, inputs, opset=11, **settings))
    called = functions_called(model, *inputs)
    assert [each for each in called if each == "pad" or each.startswith("conv")] == expected


def deformed(dtype=torch.float32):
    shapes = [(2, 4, 5, 4), (6, 2, 3, 2), (2, 2 * 6 * 2, 4, 4), (6,), (2, 2 * 6, 4, 4)]
    return [torch.randn(each, dtype=dtype) for each in shapes]


def test_deform_conv_is_onnxruntimes():
    settings = {"group": 2, "offset_group": 2, "pads": [1, 0, 0, 1]}
    check_same("DeformConv", deformed(), opset=19, **settings)


def test_deform_conv_differentiates():
    shapes = [(1, 2, 3, 3), (2, 1, 2, 2), (1, 4 * 2, 2, 2), (2,), (1, 4, 2, 2)]
    inputs = [torch.randn(each, dtype=torch.float64) for each in shapes]
    inputs[2] = inputs[2].clamp(-0.9, 0.9) * 0.4 + 0.5  # away from whole places, where it bends
    check_gradients("DeformConv", inputs, opset=19, twice=False, group=2)


def test_deform_conv_without_offsets_is_conv_on_any_number_of_axes():
    x, w = torch.randn(1, 2, 4, 5, 4), torch.randn(3, 2, 2, 2, 2)
    offset = torch.zeros(1, 8 * 3, 2, 4, 3)
    settings = {"strides": [2, 1, 1]}
    found = ours("DeformConv", [x, w, offset], opset=22, **settings)
    torch.testing.assert_close(found, ours("Conv", [x, w], opset=22, **settings))


@pytest.mark.parametrize(
    ("sizes", "block", "settings"),
    [
        ([8, 8], [2, 2], {"pads": [1, 0, 2, 1]}),
        ([6, 5, 7], [2, 2, 2], {"strides": [2, 1, 2], "dilations": [1, 2, 1]}),
        ([9], [3], {"strides": [2], "pads": [1, 2]}),
    ],
)
def test_col2im_is_the_transpose_of_the_blocks(sizes, block, settings):
    rank = len(sizes)
    pads = settings.get("pads", [0] * 2 * rank)
    steps, spread = settings.get("strides", [1] * rank), settings.get("dilations", [1] * rank)
    image = torch.randn(2, 3, *sizes)
    blocks = torch.nn.functional.pad(
        image, [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])]
    )
    for i, k in enumerate(block):
        blocks = blocks.unfold(2 + i, (k - 1) * spread[i] + 1, steps[i])[..., :: spread[i]]
    places = blocks.shape[2 : 2 + rank].numel()
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    columns = blocks.permute(order).reshape(2, -1, places)
    weights = torch.randn_like(columns)
    shapes = [torch.tensor(sizes), torch.tensor(block)]
    folded = ours("Col2Im", [weights, *shapes], opset=18, **settings)
    assert folded.shape == image.shape
    torch.testing.assert_close((folded * image).sum(), (weights * columns).sum())


def test_causal_conv_in_two_parts_is_that_of_the_whole():
    x, w, b = torch.randn(2, 3, 9), torch.randn(3, 1, 4), torch.randn(3)
    settings = {"opset": 27, "outputs": 2, "activation": "silu"}
    whole, end = ours("CausalConvWithState", [x, w, b], **settings)
    first, state = ours("CausalConvWithState", [x[..., :2], w, b], **settings)
    second, last = ours("CausalConvWithState", [x[..., 2:], w, b, state], **settings)
    torch.testing.assert_close(torch.cat([first, second], 2), whole)
    torch.testing.assert_close(last, end)


@pytest.mark.parametrize(
    ("name", "shapes", "settings", "said"),
    [
        ("Conv", [(1, 2, 5), (3, 2, 3, 3)], {}, "expected a weight of rank 3"),
        ("Conv", [(1, 2, 5), (3, 2, 3)], {"kernel_shape": [2]}, r"shape \[2\], found \[3\]"),
        ("Conv", [(1, 2, 5), (3, 2, 3)], {"pads": [1]}, "expected 2 pads"),
        ("Conv", [(1, 2, 5), (3, 2, 3)], {"auto_pad": "SAME"}, "auto_pad"),
        ("Conv", [(1, 2, 2, 2, 2, 2), (3, 2, 1, 1, 1, 1)], {}, "1 to 3 spatial axes, found 4"),
        ("DeformConv", [(1, 2, 3), (1, 2, 1), (1, 3, 3)], {}, "expected 1 groups of 1 offsets"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(name, shapes, settings, said):
    with pytest.raises(NodeError, match=said):
        ours(name, [torch.randn(each) for each in shapes], opset=22, **settings)
