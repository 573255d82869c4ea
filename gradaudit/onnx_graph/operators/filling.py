"""Tensors made of shapes and numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import torch_dtype

_HALVES = (torch.float16, torch.bfloat16)


@operator("ConstantOfShape", since=9)
def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """``value``, by default 0, in every entry."""
    sizes = shape.tolist()
    if value is None:
        return torch.zeros(sizes, device=shape.device)
    if value.numel() != 1:
        raise ValueError(f"value should be one number, not of shape {list(value.shape)}")
    return value.to(shape.device).reshape(()).expand(sizes).clone()


@operator("EyeLike", since=9)
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on the ``k``-th diagonal, in the shape of the matrix ``x``."""
    if x.dim() != 2:
        raise ValueError(f"the input should be a matrix, not of {x.dim()} dimensions")
    ones = torch.ones(x.shape, device=x.device)
    return ones.triu(k).tril(k).to(x.dtype if dtype is None else torch_dtype(dtype))


@operator("Range", since=11)
def range_of(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """``start + i delta`` up to ``limit``; half formats are computed in the type to stash in."""
    dtype = start.dtype
    start, limit, delta = (each.reshape(()) for each in (start, limit, delta))
    if dtype in _HALVES:
        start, limit, delta = (each.to(torch_dtype(stash_type)) for each in (start, limit, delta))
    first, end, step = (each.item() for each in (start, limit, delta))
    if step == 0:
        raise ValueError("delta should not be 0")
    # of integers exact, which their quotient as a float is not
    count = math.ceil((end - first) / step) if dtype.is_floating_point else -((first - end) // step)
    steps = torch.arange(max(int(count), 0), dtype=start.dtype, device=start.device)
    return (start + steps * delta).to(dtype)
