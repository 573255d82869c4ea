"""Elementwise functions of one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator


@operator("Relu")
def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


@operator("Abs")
def absolute(x: Tensor) -> Tensor:
    """``|x|``."""
    return x.abs()
