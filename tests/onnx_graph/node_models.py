"""Models of one node: as gradaudit runs them, and as onnxruntime does."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.registry import find_operator
from gradaudit.onnx_graph.tensors import from_numpy, to_numpy

Array = Any


def one_node(
    kind: str, arrays: list[Array | None], opset: int, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node with these inputs, ``None`` where one is left out."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    made = [f"y{i}" for i in range(outputs)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in zip(names, arrays, strict=True)
        if array is not None
    ]
    unknown = [onnx.ValueInfoProto(name=name) for name in made]
    node = helper.make_node(kind, names, made, name="node", **attributes)
    graph = helper.make_graph([node], "graph", inputs, unknown)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ours(
    kind: str, *arrays: Array | None, opset: int = 20, outputs: int = 1, **attributes: Any
) -> Any:
    """What gradaudit makes of the node."""
    model = load_onnx(one_node(kind, list(arrays), opset, outputs, **attributes))
    return model(*[from_numpy(array) for array in arrays if array is not None])


def agree(kind: str, *arrays: Array | None, opset: int = 20, **attributes: Any) -> None:
    """Assert that gradaudit computes what onnxruntime does, in the same type."""
    given = [array for array in arrays if array is not None]
    model = one_node(kind, list(arrays), opset, **attributes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(
        None, {each.name: a for each, a in zip(session.get_inputs(), given, strict=True)}
    )
    with torch.no_grad():
        got = load_onnx(model)(*[from_numpy(array) for array in given])
    got = to_numpy(got)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    wide = 2e-3 if expected.dtype == np.float16 else 1e-5
    if expected.dtype.kind in "fb":
        np.testing.assert_allclose(got, expected, rtol=wide, atol=wide)
    else:
        np.testing.assert_array_equal(got, expected)


def function(kind: str, opset: int = 28) -> Any:
    """The operator's function."""
    found = find_operator("", kind, opset)
    assert found is not None, f"{kind} of opset {opset}"
    return found.function


def check_derivatives(call: Any, *inputs: torch.Tensor, twice: bool = True) -> None:
    """Compare first derivatives, in both modes, and second ones with differences."""
    given = [each.double().requires_grad_() for each in inputs]
    with warnings.catch_warnings():  # torch's own, the first time it goes forward
        warnings.simplefilter("ignore", DeprecationWarning)
        assert torch.autograd.gradcheck(call, given, check_forward_ad=True)
    assert not twice or torch.autograd.gradgradcheck(call, given)


def drawn(*shape: int, dtype: Any = np.float32, seed: int = 0, low: float = -2.0) -> Array:
    """Numbers of the type in [low, -low), or from [0, 4) on for low = 0, from a seed."""
    values = np.random.default_rng(seed).uniform(low, -low or 4.0, shape)
    return np.asarray(values).astype(dtype)
