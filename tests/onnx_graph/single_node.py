"""One operator as a whole model, run by gradaudit or by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.tensors import ELEMENT_TYPES, to_numpy


def single_node(
    name: str, inputs: Any, *, opset: int, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; inputs that are ``None`` are left out."""
    given = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    declared = [
        helper.make_tensor_value_info(n, ELEMENT_TYPES[value.dtype], list(value.shape))
        for n, value in zip(given, inputs, strict=True)
        if n
    ]
    graph = helper.make_graph(
        [helper.make_node(name, given, made, name="node", **attributes)],
        "single",
        declared,
        [helper.make_empty_tensor_value_info(each) for each in made],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def ours(name: str, inputs: Any, *, opset: int, outputs: int = 1, **attributes: Any) -> Any:
    """What gradaudit makes of it: one value, or a tuple of several."""
    model = single_node(name, inputs, opset=opset, outputs=outputs, **attributes)
    return load_onnx(model)(*[value for value in inputs if value is not None])


def theirs(
    name: str, inputs: Any, *, opset: int, outputs: int = 1, **attributes: Any
) -> list[np.ndarray[Any, Any]]:
    """What onnxruntime makes of it, as a list."""
    model = single_node(name, inputs, opset=opset, outputs=outputs, **attributes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {f"x{i}": to_numpy(value) for i, value in enumerate(inputs) if value is not None}
    return list(session.run(None, feeds))


def check_same(name: str, inputs: Any, *, opset: int, outputs: int = 1, **attributes: Any) -> None:
    """Assert that both make the same of it."""
    mine = ours(name, inputs, opset=opset, outputs=outputs, **attributes)
    mine = mine if outputs > 1 else (mine,)
    expected = theirs(name, inputs, opset=opset, outputs=outputs, **attributes)
    for got, want in zip(mine, expected, strict=True):
        assert isinstance(got, torch.Tensor)
        found = to_numpy(got)
        assert (found.dtype, found.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def check_gradients(
    name: str, inputs: Any, *, opset: int, twice: bool = True, **attributes: Any
) -> None:
    """Assert that first (and second) derivatives in the float64 inputs are right."""
    model = load_onnx(single_node(name, inputs, opset=opset, **attributes))
    given = [
        value.requires_grad_() if value.dtype == torch.float64 else value
        for value in (each.clone() for each in inputs if each is not None)
    ]
    assert torch.autograd.gradcheck(model, given)
    if twice:
        assert torch.autograd.gradgradcheck(model, given)


def functions_called(model: Any, *inputs: Any) -> list[str]:
    """The names of the torch functions that a call of ``model`` calls, in order."""
    names = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    with Recorder():
        model(*inputs)
    return names
