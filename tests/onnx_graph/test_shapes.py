"""Shapes, parts and padding beyond ONNX's node tests: opsets, types, gradients, error lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradaudit.onnx_graph.node import NodeError
from gradaudit.onnx_graph.registry import operators
from tests.onnx_graph.small_models import ints, run_node, same_as_onnxruntime, strings

X = torch.arange(24.0).reshape(2, 3, 4)
WIDE = torch.arange(6).reshape(2, 3).to(torch.uint16)

LIKE_ONNXRUNTIME: dict[str, tuple[Any, ...]] = {
    "reshape_keeps": ("Reshape", 7, (X, ints(0, -1)), {}),
    "reshape_zero": ("Reshape", 14, (X[:0], ints(3, 0, 5)), {"allowzero": 1}),
    "flatten_front": ("Flatten", 7, (X,), {"axis": 0}),
    "flatten_negative": ("Flatten", 11, (X,), {"axis": -1}),
    "squeeze_attribute": ("Squeeze", 11, (X[:, :1],), {"axes": [-2]}),
    "squeeze_all": ("Squeeze", 13, (X[:1, :1],), {}),
    "unsqueeze_attribute": ("Unsqueeze", 7, (X,), {"axes": [3, 0]}),
    "unsqueeze_negative": ("Unsqueeze", 13, (X, ints(-1, 1)), {}),
    "shape_negative": ("Shape", 15, (X,), {"start": -5, "end": -1}),
    "tile": ("Tile", 7, (X, ints(2, 1, 3)), {}),
    "expand_fewer": ("Expand", 8, (X[:, :1], ints(3, 1)), {}),
    "split_equal": ("Split", 7, (X,), {"axis": -1}),
    "split_attribute": ("Split", 11, (X,), {"axis": 2, "split": [1, 3]}),
    "split_13": ("Split", 13, (X, ints(3, 1)), {"axis": 2}),
    "split_uneven": ("Split", 18, (X,), {"axis": 1, "num_outputs": 2}),
    "slice_1": ("Slice", 7, (X,), {"starts": [0, -3], "ends": [9, -1], "axes": [1, 2]}),
    "slice_9_all": ("Slice", 9, (X,), {"starts": [1], "ends": [2**31 - 1]}),
    "slice_back": ("Slice", 10, (X, ints(3, 9), ints(-99, 0), ints(2, 1), ints(-2, -1)), {}),
    "slice_step": ("Slice", 13, (X, ints(0), ints(2**31), ints(-1), ints(3)), {}),
    "slice_none": ("Slice", 13, (X, ints(2), ints(1), ints(1)), {}),
    "slice_start_clamped": ("Slice", 13, (X, ints(-9), ints(-99), ints(2), ints(-1)), {}),
    "slice_integers": ("Slice", 13, (WIDE.int(), ints(2), ints(-9), ints(1), ints(-1)), {}),
    "pad_2": ("Pad", 7, (X,), {"pads": [0, 0, 1, 0, 0, -1], "value": 5.0}),
    "pad_2_reflect": ("Pad", 10, (X,), {"pads": [0, 2, 3, 0, 1, 1], "mode": "reflect"}),
    "pad_value": ("Pad", 11, (X, ints(1, 0, 0, 0, 0, 2), torch.tensor(7.0)), {}),
    "pad_edge": ("Pad", 13, (X, ints(2, 0, 1, 1, 0, 5)), {"mode": "edge"}),
    "pad_axes": ("Pad", 18, (X, ints(-1, 2), None, ints(-1)), {"mode": "reflect"}),
    "pad_wrap": ("Pad", 19, (X, ints(0, 3, 2, 1, 2, 0)), {"mode": "wrap"}),
    "pad_integers": ("Pad", 13, (X.int(), ints(0, 1, 0, 0, 1, 0)), {"mode": "reflect"}),
    "depth_to_space_1": ("DepthToSpace", 7, (torch.rand(2, 12, 2, 3),), {"blocksize": 2}),
    "space_to_depth": ("SpaceToDepth", 13, (torch.rand(2, 3, 4, 6),), {"blocksize": 2}),
    "reverse_sequence": (
        "ReverseSequence",
        10,
        (X[0], ints(1, 3, 2)),
        {"batch_axis": 0, "time_axis": 1},
    ),
    "compress_flat": ("Compress", 9, (X, torch.tensor([False, True, True])), {}),
    "compress_axis": ("Compress", 11, (X, torch.tensor([False, True])), {"axis": -1}),
    "concat": ("Concat", 7, (X, X[:, :1]), {"axis": 1}),
    "concat_strings": ("Concat", 13, (strings("a"), strings("b", "c")), {"axis": 0}),
    "expand_strings": ("Expand", 13, (strings("a", "b"), ints(2, 2)), {}),
}


@pytest.mark.parametrize("name", LIKE_ONNXRUNTIME)
def test_results_are_onnxruntimes(name: str) -> None:
    operator, opset, values, attributes = LIKE_ONNXRUNTIME[name]
    outputs = 2 if operator == "Split" else 1
    same_as_onnxruntime(operator, *values, opset=opset, outputs=outputs, **attributes)


def test_operators_as_they_were_before_opset_7() -> None:
    reshape, tile, concat, split, pad = (
        operators()["", name][0].function for name in ("Reshape", "Tile", "Concat", "Split", "Pad")
    )
    assert reshape(X, shape=[0, -1]).shape == (2, 12)
    assert torch.equal(tile(X, ints(2), ints(1)), torch.cat([X, X], 1))
    assert concat(X, X).shape == (2, 6, 4)
    parts = split(X, ints(1, 2), axis=1, wanted=(True, True))
    assert [part.shape[1] for part in parts] == [1, 2]
    padded = pad(X, paddings=[0, 0, 1, 0, 0, 0], value=3.0)
    assert torch.equal(padded[..., 0], torch.full((2, 3), 3.0))


@pytest.mark.parametrize(
    ("operator", "values", "attributes"),
    [
        ("Reshape", (ints(3, 2),), {}),
        ("Transpose", (), {}),
        ("Tile", (ints(1, 2),), {}),
        ("Slice", (ints(2), ints(-9), ints(1), ints(-1)), {}),
        ("Pad", (ints(0, 1, 0, 1),), {"mode": "wrap"}),
        ("Gather", (ints(1),), {"axis": 1}),
    ],
)
def test_wide_unsigned_integers_keep_their_type(
    operator: str, values: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    small = run_node(operator, WIDE.int(), *values, **attributes)
    for dtype in (torch.uint16, torch.uint32, torch.uint64):
        found = run_node(operator, WIDE.to(dtype), *values, **attributes)
        assert found.dtype == dtype
        assert torch.equal(found.int(), small)


def test_padding_of_strings_is_empty() -> None:
    found = run_node("Pad", strings("a"), ints(1, 1))
    assert found.tolist() == ["", "a", ""]
    found = run_node("Pad", strings("a"), ints(0, 1), np.array("z", dtype=object))
    assert found.tolist() == ["a", "z"]


@pytest.mark.parametrize(
    ("operator", "values", "attributes"),
    [
        ("Slice", (ints(3), ints(-9), ints(2), ints(-2)), {}),
        ("Pad", (ints(0, 2, 3, 0, 1, 1),), {"mode": "reflect"}),
        ("Pad", (ints(0, 0, 3, 0, 0, 1),), {"mode": "reflect"}),
        ("Pad", (ints(0, 0, 5, 0, 0, 1),), {"mode": "edge"}),
        ("Pad", (ints(0, -1, 1, 1, 0, 1),), {"mode": "wrap"}),
        ("ReverseSequence", (ints(2, 1, 2),), {}),
        ("CenterCropPad", (ints(3, 2, 4),), {}),
        ("Expand", (ints(2, 2, 3, 4),), {}),
        ("Compress", (torch.tensor([True, False, True]),), {"axis": 1}),
    ],
)
def test_gradients(operator: str, values: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    x = X.double().requires_grad_()
    call = lambda x: run_node(operator, x, *values, **attributes)  # noqa: E731
    assert torch.autograd.gradcheck(call, x)
    assert torch.autograd.gradgradcheck(call, x)


def test_gradient_reaches_the_value_padded_with() -> None:
    value = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    padded = run_node("Pad", X.double(), ints(0, 0, 1, 0, 0, 1), value)
    padded.sum().backward()
    assert value.grad == 12


@pytest.mark.parametrize(
    ("operator", "values", "attributes", "line"),
    [
        ("Reshape", (X, ints(1, 1, 1, 0)), {}, r"shape \[1, 1, 1, 0\] keeps a size"),
        ("Squeeze", (X, ints(1)), {}, r"axes \[1\] of shape \[2, 3, 4\] are not all of size 1"),
        ("Unsqueeze", (X, ints(0, 0)), {}, "name one axis twice"),
        ("Flatten", (X,), {"axis": 4}, "axis 4 of a tensor of rank 3"),
        ("Tile", (X, ints(1, 2)), {}, "2 repeats for a tensor of rank 3"),
        ("Slice", (X, ints(0), ints(1), ints(3)), {}, "axis 3 of a tensor of rank 3"),
        ("Slice", (X, ints(0), ints(1, 2)), {}, "not as many of each"),
        ("Slice", (X, ints(0), ints(1), ints(0), ints(0)), {}, "one of them 0"),
        ("Split", (X, ints(1, 3)), {}, r"an axis of size 2 in parts of sizes \[1, 3\]"),
        ("Pad", (X, ints(1, 2)), {}, "2 pads for 3 axes"),
        ("Pad", (X, ints(1, 2)), {"mode": "mirror"}, "'mirror' where one of constant, reflect"),
        ("Pad", (X[:0], ints(1, 0, 0, 0, 0, 0)), {"mode": "wrap"}, "axis 0, which is empty"),
        ("CenterCropPad", (X, ints(1)), {}, r"shape \[1\] for 3 axes"),
        ("DepthToSpace", (X[None],), {"blocksize": 2, "mode": "RDC"}, "'RDC' where one of DCR"),
    ],
)
def test_error_lines(
    operator: str, values: tuple[Any, ...], attributes: dict[str, Any], line: str
) -> None:
    with pytest.raises(NodeError, match=line):
        run_node(operator, *values, **attributes)


def test_split_13_wants_equal_parts() -> None:
    with pytest.raises(NodeError, match="an axis of size 3 in 2 equal parts"):
        run_node("Split", X, opset=13, outputs=2, axis=1)
