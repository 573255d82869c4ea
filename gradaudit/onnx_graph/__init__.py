"""An ONNX graph as a differentiable torch module."""

from __future__ import annotations

from gradaudit.onnx_graph.graph import Graph
from gradaudit.onnx_graph.loading import load_onnx

__all__ = ["Graph", "load_onnx"]
