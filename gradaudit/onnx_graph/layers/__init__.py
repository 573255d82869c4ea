"""Layers: a node as one of torch's own, one file per family; see :mod:`_made`."""

from gradaudit.onnx_graph.layers._made import Asked, Layer, Parameters, layer_of

__all__ = ["Asked", "Layer", "Parameters", "layer_of"]
