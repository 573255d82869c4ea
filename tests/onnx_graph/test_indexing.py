"""Gathering, scattering and selecting beyond ONNX's node tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gradaudit.onnx_graph.node import NodeError
from tests.onnx_graph.small_models import ints, run_node, same_as_onnxruntime, strings

X = torch.tensor([[3.0, 1.0, 3.0, -2.0], [0.0, 5.0, 5.0, 1.0], [2.0, 2.0, 7.0, 2.0]])
ROWS = ints(2, -3)
PLACES = torch.tensor([[0, -1, 2, 1], [1, 0, 0, 2]])
UPDATES = torch.arange(8.0).reshape(2, 4) + 1
BOXES = torch.tensor([[[0.0, 0, 2, 2], [2.0, 2, 0, 0.1], [5, 5, 6, 6], [0, 0, 0, 0]]])
SCORES = torch.tensor([[[0.5, 0.9, 0.3, 0.9], [0.1, 0.2, 0.8, 0.0]]])

LIKE_ONNXRUNTIME: dict[str, tuple[Any, ...]] = {
    "gather_rows": ("Gather", 7, (X, torch.tensor([[0, 2], [1, 1]])), {}),
    "gather_scalar": ("Gather", 13, (X, torch.tensor(-1)), {"axis": -1}),
    "gather_strings": ("Gather", 13, (strings("a", "b"), torch.tensor([[1, 0]])), {}),
    "gather_elements": ("GatherElements", 11, (X, PLACES), {"axis": 0}),
    "gather_nd": ("GatherND", 12, (X, torch.tensor([[[1]], [[-1]], [[0]]])), {"batch_dims": 1}),
    "gather_nd_slices": ("GatherND", 11, (X, torch.tensor([[[2], [0]]])), {}),
    "scatter": ("Scatter", 9, (X, torch.tensor([[0, 1, 2, 1]]), UPDATES[:1]), {}),
    "scatter_add": ("ScatterElements", 16, (X, PLACES, UPDATES), {"reduction": "add"}),
    "scatter_mul": ("ScatterElements", 18, (X, PLACES, UPDATES), {"reduction": "mul"}),
    "scatter_min": ("ScatterElements", 18, (X.int(), PLACES, UPDATES.int()), {"reduction": "min"}),
    "scatter_nd": ("ScatterND", 11, (X, ROWS[:, None], UPDATES), {}),
    "scatter_nd_add": ("ScatterND", 16, (X, ints(1, -2)[:, None], UPDATES), {"reduction": "add"}),
    "scatter_nd_max": ("ScatterND", 18, (X, ints(1, 1)[:, None], UPDATES), {"reduction": "max"}),
    "scatter_nd_points": (
        "ScatterND",
        18,
        (X, torch.tensor([[0, -1], [2, 0]]), UPDATES[0, :2]),
        {},
    ),
    "one_hot_9": ("OneHot", 9, (ints(1, 3), ints(3), torch.tensor([-1.0, 2.0])), {}),
    "one_hot_11": ("OneHot", 11, (ints(1, -1, 7), torch.tensor(3), ints(5, 6)), {"axis": 0}),
    "top_k_1": ("TopK", 7, (X,), {"k": 2}),
    "top_k_10": ("TopK", 10, (X, ints(3)), {"axis": 0}),
    "top_k_ties": ("TopK", 11, (torch.tensor([1.0, 2, 2, 1, 1]), ints(4)), {"largest": 0}),
    "non_zero": ("NonZero", 9, (X,), {}),
    "unique_order": ("Unique", 11, (X,), {"sorted": 0}),
    "unique_axis": ("Unique", 11, (X[:, [1, 0, 1]],), {"axis": 1}),
    "unique_strings": ("Unique", 11, (strings("b", "a", "b"),), {"sorted": 0}),
    "suppression": (
        "NonMaxSuppression",
        10,
        (BOXES, SCORES, ints(3), torch.tensor([0.5]), torch.tensor([0.15])),
        {},
    ),
    "suppression_none": ("NonMaxSuppression", 11, (BOXES, SCORES), {}),
    "suppression_centers": (
        "NonMaxSuppression",
        11,
        (BOXES.abs(), SCORES, ints(2), torch.tensor([0.2])),
        {"center_point_box": 1},
    ),
}
OUTPUTS = {"TopK": 2, "Unique": 4}


@pytest.mark.parametrize("name", LIKE_ONNXRUNTIME)
def test_results_are_onnxruntimes(name: str) -> None:
    operator, opset, values, attributes = LIKE_ONNXRUNTIME[name]
    outputs = OUTPUTS.get(operator, 1)
    same_as_onnxruntime(operator, *values, opset=opset, outputs=outputs, **attributes)


def test_negative_indices_are_one_hot_from_opset_11_on() -> None:
    values = torch.tensor([0.0, 1.0])
    before = run_node("OneHot", ints(-1), ints(2), values, opset=9)
    since = run_node("OneHot", ints(-1), ints(2), values, opset=11)
    assert (before.tolist(), since.tolist()) == ([[0.0, 0.0]], [[0.0, 1.0]])


def test_unique_of_strings_and_scalars() -> None:
    found, first, inverse, counts = run_node(
        "Unique", np.array([["b", "a"], ["b", "a"], ["", "z"]], dtype=object), axis=0, outputs=4
    )
    assert found.tolist() == [["", "z"], ["b", "a"]]
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([2, 0], [1, 1, 0], [1, 2])
    assert run_node("NonZero", torch.tensor(3.0)).shape == (0, 1)
    assert run_node("NonZero", strings("a", "", "b")).tolist() == [[0, 2]]


def test_circular_writes_wrap_around() -> None:
    cache = torch.zeros(2, 1, 3, 2)
    update = torch.ones(2, 1, 2, 2)
    written = run_node("TensorScatter", cache, update, ints(2, 0), opset=24, mode="circular")
    assert written[:, 0, :, 0].tolist() == [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]


def test_rows_of_a_table_are_an_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    embedding = F.embedding
    monkeypatch.setattr(F, "embedding", lambda *args: called.append(args) or embedding(*args))
    assert torch.equal(run_node("Gather", X, ints(1, -1)), X[[1, 2]])
    assert called


def _gather(x: torch.Tensor) -> Any:
    return run_node("Gather", x, PLACES % 3)


def _gather_axis(x: torch.Tensor) -> Any:
    return run_node("Gather", x, PLACES, axis=1)


def _gather_nd(x: torch.Tensor) -> Any:
    return run_node("GatherND", x, torch.tensor([[0, 1], [-1, 2]]))


def _top(x: torch.Tensor) -> Any:
    return run_node("TopK", x, ints(2), outputs=2)[0]


def _unique(x: torch.Tensor) -> Any:
    return run_node("Unique", x, sorted=0)


def _hot(values: torch.Tensor) -> Any:
    return run_node("OneHot", ints(0, 2), ints(3), values)


def _cache(x: torch.Tensor) -> Any:
    cache = x.reshape(3, 4, 1)
    return run_node("TensorScatter", cache, 2 * cache[:, :2], ints(2, 1, 0), opset=24)


@pytest.mark.parametrize(
    "function", [_gather, _gather_axis, _gather_nd, _top, _unique, _cache, _hot]
)
def test_gradients(function: Callable[[torch.Tensor], Any]) -> None:
    x = X[0, 1:3] if function is _hot else X + 0.01 * torch.arange(12).reshape(3, 4)
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
def test_gradients_of_scattering_with(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    updates = torch.rand(2, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    places = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]])

    def elements(x: torch.Tensor, updates: torch.Tensor) -> Any:
        return run_node("ScatterElements", x, places, updates, reduction=reduction)

    def slices(x: torch.Tensor, updates: torch.Tensor) -> Any:
        return run_node("ScatterND", x, ints(2, 0)[:, None], updates, reduction=reduction)

    assert torch.autograd.gradcheck(elements, (x, updates))
    assert torch.autograd.gradcheck(slices, (x, updates))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    assert run_node("Gather", x, ROWS).dtype == dtype
    assert run_node("TopK", x, ints(1), outputs=2)[0].dtype == dtype
    added = run_node("ScatterND", x, ROWS[:, None], UPDATES.to(dtype), reduction="max")
    assert added.dtype == dtype


@pytest.mark.parametrize(
    ("operator", "values", "attributes", "line"),
    [
        ("Gather", (X, ints(1, 4)), {"axis": 1}, "indices 1 to 4 into axis 1 of size 4"),
        ("Gather", (X, ints(-9)), {}, "indices -9 to -9 into axis 0 of size 3"),
        ("GatherElements", (X, PLACES), {"axis": 2}, "axis 2 of a tensor of rank 2"),
        ("GatherND", (X, ints(1)[None]), {"batch_dims": 1}, "without 1 axes in common"),
        ("ScatterND", (X, ROWS[:, None], X), {}, r"where \[2, 4\] were expected"),
        ("ScatterElements", (X, PLACES, UPDATES), {"reduction": "sum"}, "'sum' where one of none"),
        ("TopK", (X, ints(5)), {}, "the top 5 of an axis of size 4"),
    ],
)
def test_error_lines(
    operator: str, values: tuple[Any, ...], attributes: dict[str, Any], line: str
) -> None:
    with pytest.raises(NodeError, match=line):
        run_node(operator, *values, outputs=OUTPUTS.get(operator, 1), **attributes)


def test_a_cache_is_not_written_along_the_batch() -> None:
    with pytest.raises(NodeError, match="axis 0, the batch's"):
        run_node("TensorScatter", X, X, opset=24, axis=0)
