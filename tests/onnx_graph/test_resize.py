from __future__ import annotations

from itertools import product

import numpy as np
import onnx.reference
import pytest
import torch
import torch.nn.functional as F

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.single_node import (
    check_gradients,
    check_same,
    functions_called,
    ours,
    single_node,
)

SMOOTH = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def to_sizes(x, *sizes):
    return [x, None, None, torch.tensor([*x.shape[:2], *sizes])]


def by_scales(x, *scales):
    return [x, None, torch.tensor([1.0, 1.0, *scales])]


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transformation", [*SMOOTH, "half_pixel_symmetric"])
def test_smooth_resizing_is_onnxruntimes(mode, transformation):
    x = torch.randn(1, 2, 5, 4)
    settings = {"mode": mode, "coordinate_transformation_mode": transformation, "opset": 19}
    for sizes, antialias in product([(9, 3), (2, 8)], [0, 1]):
        check_same("Resize", to_sizes(x, *sizes), antialias=antialias, **settings)
    if transformation != "align_corners":  # which goes by whole lengths there
        check_same("Resize", by_scales(x, 1.3, 0.6), **settings)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("transformation", [*SMOOTH, "tf_half_pixel_for_nn"])
def test_nearest_resizing_is_onnxruntimes(nearest, transformation):
    settings = {"coordinate_transformation_mode": transformation, "nearest_mode": nearest}
    x = torch.randn(1, 2, 5, 4)
    for sizes in [(9, 3), (10, 2)]:
        inputs = to_sizes(x, *sizes)
        inputs[1] = inputs[2] = torch.zeros(0)
        check_same("Resize", inputs, opset=11, **settings)


@pytest.mark.parametrize(
    ("inputs", "settings"),
    [
        ("sizes", {"cubic_coeff_a": -0.5, "mode": "cubic"}),
        ("sizes", {"exclude_outside": 1, "mode": "cubic"}),
        ("sizes", {"exclude_outside": 1, "mode": "cubic", "antialias": 1}),
        ("axes", {"axes": [3, -2], "mode": "linear"}),
        ("axes", {"axes": [3, 2], "mode": "linear", "keep_aspect_ratio_policy": "not_larger"}),
        ("axes", {"axes": [3, 2], "keep_aspect_ratio_policy": "not_smaller"}),
    ],
)
def test_settings_are_as_the_reference_has_them(inputs, settings):
    x = torch.randn(1, 2, 5, 4)
    given = to_sizes(x, 7, 3) if inputs == "sizes" else [x, None, None, torch.tensor([7, 9])]
    reference = onnx.reference.ReferenceEvaluator(
        single_node("Resize", given, opset=19, **{**settings, "axes": [3, 2]})
        if inputs == "axes"
        else single_node("Resize", given, opset=19, **settings)
    )
    expected = reference.run(None, {"x0": x.numpy(), "x3": given[3].numpy()})[0]
    found = ours("Resize", given, opset=19, **settings)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_crop_reaches_out_of_the_image(mode):
    x = torch.randn(1, 2, 5, 4)
    roi = torch.tensor([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.1])
    settings = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 5.0,
    }
    given = [x, roi, None, torch.tensor([1, 2, 7, 6])]
    reference = onnx.reference.ReferenceEvaluator(
        single_node("Resize", given, opset=18, **settings)
    )
    feeds = {"x0": x.numpy(), "x1": roi.numpy(), "x3": given[3].numpy()}
    found = ours("Resize", given, opset=18, **settings)
    np.testing.assert_allclose(found, reference.run(None, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(2.0, 1.3), (0.6, 0.7), (1.5, 3.0)])
def test_before_opset_11_places_are_i_over_scale(mode, scales):
    x = torch.randn(1, 2, 5, 4)
    by = torch.tensor([1.0, 1.0, *scales])
    check_same("Resize", [x, by], opset=10, mode=mode)
    if min(scales) >= 1:
        check_same("Upsample", [x, by], opset=9, mode=mode)
        check_same("Upsample", [x], opset=7, mode=mode, scales=[1.0, 1.0, *scales])


INTERPOLATED = [
    ({"size": (7, 9), "mode": "bilinear"}, "linear", "pytorch_half_pixel"),
    ({"size": (7, 9), "mode": "bilinear", "align_corners": True}, "linear", "align_corners"),
    ({"scale_factor": (0.7, 1.7), "mode": "bilinear"}, "linear", "pytorch_half_pixel"),
    ({"size": (7, 9), "mode": "bicubic"}, "cubic", "pytorch_half_pixel"),
    ({"size": (7, 9)}, "nearest", "asymmetric"),
    ({"scale_factor": 2}, "nearest", "asymmetric"),
    ({"scale_factor": 1 / 3}, "nearest", "asymmetric"),
]


@pytest.mark.parametrize(("torchs", "mode", "transformation"), INTERPOLATED)
def test_what_torch_exports_is_interpolated_by_torch(torchs, mode, transformation):
    x = torch.randn(1, 2, 10, 12)
    if "size" in torchs:
        inputs = to_sizes(x, *torchs["size"])
    else:
        factor = torchs["scale_factor"]
        inputs = by_scales(x, *(factor if isinstance(factor, tuple) else (factor, factor)))
    settings = {
        "mode": mode,
        "coordinate_transformation_mode": transformation,
        "nearest_mode": "floor",
    }
    model = load_onnx(single_node("Resize", inputs, opset=13, **settings))
    given = [each for each in inputs if each is not None]
    torch.testing.assert_close(model(*given), F.interpolate(x, **torchs))
    assert "interpolate" in functions_called(model, *given)


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "linear"},
        {"mode": "cubic", "antialias": 1},
        {"mode": "nearest", "nearest_mode": "ceil"},
        {"mode": "cubic", "exclude_outside": 1},
    ],
)
def test_resizing_differentiates(settings):
    x = torch.randn(1, 1, 4, 3, dtype=torch.float64)
    check_gradients("Resize", to_sizes(x, 3, 5), opset=18, **settings)


def test_integers_are_rounded_and_saturated():
    x = torch.tensor([[[0, 255, 255, 0, 255]]], dtype=torch.uint8)
    given = [x, None, None, torch.tensor([1, 1, 9])]
    found = ours("Resize", given, opset=18, mode="cubic")
    exact = ours("Resize", [x.double(), *given[1:]], opset=18, mode="cubic")
    assert exact.min() < 0
    assert torch.equal(found, exact.round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_stay_halves(dtype):
    x = torch.randn(1, 1, 8, 8).to(dtype)
    given = to_sizes(x, 3, 5)
    found = ours("Resize", given, opset=18, mode="linear", antialias=1)
    exact = ours("Resize", [x.double(), *given[1:]], opset=18, mode="linear", antialias=1)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ((None, None), {}, "either scales or sizes, found both or neither"),
        ((torch.tensor([2.0]), None), {}, "expected 4 scales or sizes, found 1"),
        ((torch.ones(4) * 2, None), {"mode": "lanczos"}, "found 'lanczos'"),
        ((torch.ones(4) * 2, None), {"nearest_mode": "up"}, "nearest_mode of .* found 'up'"),
        (
            (torch.ones(4) * 2, None),
            {"coordinate_transformation_mode": "half"},
            "transformation of .* found 'half'",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(change, settings, said):
    with pytest.raises(NodeError, match=said):
        ours("Resize", [torch.randn(1, 1, 2, 2), None, *change], opset=18, **settings)


GRIDS = list(product([0, 1], ["zeros", "border", "reflection"], ["linear", "nearest", "cubic"]))


@pytest.mark.parametrize(("aligned", "padding", "mode"), GRIDS)
def test_grid_sample_is_onnxruntimes(aligned, padding, mode):
    settings = {"align_corners": aligned, "padding_mode": padding, "mode": mode}
    x, grid = torch.randn(2, 3, 5, 6), torch.rand(2, 4, 3, 2) * 3 - 1.5
    check_same("GridSample", [x, grid], opset=20, **settings)
    older = {**settings, "mode": {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)}
    check_same("GridSample", [x, grid], opset=16, **older)
    row = ours("GridSample", [x[:, :, 0], grid[:, 0, :, :1]], opset=20, **settings)
    assert row.shape == (2, 3, 3)
    if mode == "linear" and padding == "border":
        at = (grid[0, 0, :, 0].clamp(-1, 1) + 1) / 2 * 5
        at = at if aligned else ((grid[0, 0, :, 0] + 1) * 3 - 0.5).clamp(0, 5)
        expected = np.interp(at.numpy(), np.arange(6), x[0, 0, 0].numpy())
        np.testing.assert_allclose(row[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_grids_differentiate():
    theta = torch.randn(1, 2, 3, dtype=torch.float64)
    check_gradients("AffineGrid", [theta, torch.tensor([1, 1, 2, 3])], opset=20)
    x, grid = torch.randn(1, 1, 3, 3).double(), torch.rand(1, 2, 2, 2).double() - 0.5
    check_gradients("GridSample", [x, grid], opset=22, twice=False, mode="cubic")
