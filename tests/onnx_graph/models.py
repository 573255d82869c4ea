"""Small ONNX models to load."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model_of(nodes: list[NodeProto], initializers: Any = (), **fields: Any) -> ModelProto:
    """A model of ``x`` and ``y``, floats of any shape."""
    ends = [helper.make_tensor_value_info(name, FLOAT, None) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializers)
    fields = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 10} | fields
    return helper.make_model(graph, **fields)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs, **attributes)


def tensor(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def outside(name: str, dims: Any, kind: int = FLOAT, **place: object) -> TensorProto:
    """A tensor whose data is in another file."""
    proto = TensorProto(name=name, data_type=kind, dims=dims, data_location="EXTERNAL")
    for key, value in place.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 4)).astype(np.float32)
B = RNG.standard_normal(4).astype(np.float32)


def small() -> ModelProto:
    """``relu(x * w + b)``."""
    nodes = [node("Mul", "x w", "h"), node("Add", "h b", "s"), node("Relu", "s", "y")]
    return model_of(nodes, [tensor("w", W), tensor("b", B)])
