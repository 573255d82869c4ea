"""Models of one node, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.tensors import to_numpy


def one_node(
    kind: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    domain: str = "",
    opset: int = 17,
    output_types: Mapping[str, int] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; inputs are arrays by name, ``None`` where one is left out.

    ``output_types``: element types of outputs that cannot be inferred.
    """
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if name in given else "" for name in inputs]
    node = helper.make_node(kind, names, outputs, domain=domain, **attributes)
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, types[n], a.shape) for n, a in given.items()],
        [_output(name, (output_types or {}).get(name)) for name in outputs if name],
    )
    versions = [helper.make_opsetid("", opset)]
    if domain:
        versions.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def _output(name: str, kind: int | None) -> onnx.ValueInfoProto:
    if kind is None:
        return onnx.ValueInfoProto(name=name)
    return helper.make_tensor_value_info(name, kind, None)


def as_onnxruntime(
    kind: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str] = ("y",),
    *,
    tolerance: float = 1e-5,
    **keywords: Any,
) -> list[np.ndarray[Any, Any]]:
    """Check that gradaudit's outputs are onnxruntime's; returns gradaudit's."""
    model = one_node(kind, inputs, outputs, **keywords)
    given = {name: array for name, array in inputs.items() if array is not None}
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, given)
    with torch.no_grad():
        results = load_onnx(model)(**{n: torch.from_numpy(a) for n, a in given.items()})
    found = [to_numpy(each) for each in (results if isinstance(results, tuple) else (results,))]
    for name, got, want in zip([n for n in outputs if n], found, expected, strict=True):
        assert got.dtype == want.dtype, name
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name)
    return found
