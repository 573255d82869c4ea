"""Models of one node, and of a few lines, run by gradaudit and by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, parser

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.tensors import ELEMENT_TYPES, to_numpy


def typed(name: str, value: Any) -> onnx.ValueInfoProto:
    """The declaration of a value like this one: a tensor, strings, or a list of tensors."""
    if isinstance(value, list):
        return helper.make_tensor_sequence_value_info(name, ELEMENT_TYPES[value[0].dtype], None)
    strings = isinstance(value, np.ndarray)
    kind = TensorProto.STRING if strings else ELEMENT_TYPES[value.dtype]
    return helper.make_tensor_value_info(name, kind, list(value.shape))


def one_node(
    operator: str, values: Sequence[Any], *, opset: int, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """The operator with these inputs (``None`` where left out) in a model of this opset."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(values)]
    made = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, made, **attributes)],
        "one_node",
        [typed(n, v) for n, v in zip(names, values, strict=True) if n],
        [onnx.ValueInfoProto(name=name) for name in made],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset < 24 else 11
    )
    return onnx.shape_inference.infer_shapes(model)


def run_node(
    operator: str, *values: Any, opset: int = 21, outputs: int = 1, **attributes: Any
) -> Any:
    """What gradaudit's graph of that node gives."""
    model = one_node(operator, values, opset=opset, outputs=outputs, **attributes)
    return load_onnx(model)(*[value for value in values if value is not None])


def same_as_onnxruntime(
    operator: str, *values: Any, opset: int = 21, outputs: int = 1, **attributes: Any
) -> None:
    """Compare that node's outputs with onnxruntime's."""
    model = one_node(operator, values, opset=opset, outputs=outputs, **attributes)
    ours = load_onnx(model)(*[value for value in values if value is not None])
    agree(ours if outputs > 1 else (ours,), from_onnxruntime(model, values))


def from_onnxruntime(model: onnx.ModelProto, values: Sequence[Any]) -> list[Any]:
    """What onnxruntime gives for these inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = [_as_array(value) for value in values if value is not None]
    feeds = {each.name: value for each, value in zip(session.get_inputs(), given, strict=True)}
    return list(session.run(None, feeds))


def _as_array(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_array(each) for each in value]
    return value if isinstance(value, np.ndarray) else to_numpy(value)


def agree(ours: Any, theirs: Any) -> None:
    """Compare values, lists of them too, with their types."""
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs, strict=True):
        if isinstance(want, list):
            agree(got, want)
            continue
        found, expected = _as_array(got), np.asarray(want)
        assert found.shape == expected.shape
        if found.dtype == object:
            assert found.tolist() == expected.tolist()
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def from_text(text: str) -> onnx.ModelProto:
    """A checked model in ONNX's own text form."""
    model = parser.parse_model(text)
    onnx.checker.check_model(model)
    return model


def ints(*values: int) -> torch.Tensor:
    """A vector of int64."""
    return torch.tensor(values, dtype=torch.int64)


def strings(*values: str) -> np.ndarray[Any, Any]:
    """A vector of strings."""
    return np.array(values, dtype=object)
