"""From a file, bytes or a ModelProto to a module."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from pathlib import Path

import onnx
from onnx import ModelProto, numpy_helper

from gradaudit.onnx_graph.build import build
from gradaudit.onnx_graph.graph import Graph
from gradaudit.onnx_graph.supported import check_supported
from gradaudit.onnx_graph.tensors import from_numpy


def load_onnx(
    source: str | PathLike[str] | bytes | ModelProto, *, frozen: bool | Collection[str] = False
) -> Graph:
    """An ONNX model as a differentiable module; call it with the graph's inputs in order."""
    if isinstance(source, ModelProto):
        model, name = source, "the model"
    elif isinstance(source, bytes):
        model, name = onnx.load_model_from_string(source), "the model"
    else:
        model, name = onnx.load(str(source)), Path(source).name
    check_supported(model, name)
    return build(model, lambda proto: from_numpy(numpy_helper.to_array(proto)))
