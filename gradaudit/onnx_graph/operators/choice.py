"""Equality and choice by a condition, of strings too."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator


@operator("Equal", since=7)
def equal(a: Any, b: Any) -> Tensor:
    """Where ``a = b``."""
    if isinstance(a, Tensor):
        return torch.eq(a, b)
    return torch.from_numpy(np.asarray(a == b, dtype=bool))


@operator("Where", since=9)
def where(condition: Tensor, x: Any, y: Any) -> Any:
    """``x`` where the condition holds, elsewhere ``y``."""
    if isinstance(x, Tensor):
        return torch.where(condition, x, y)
    return np.where(condition.cpu().numpy(), x, y)
