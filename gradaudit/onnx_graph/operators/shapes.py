"""A tensor's shape, and the same values in another shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import as_ints, axes_in, axis_in
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator


@operator("Shape", as_stored=True)
def shape_of(x: Any, *, start: int = 0, end: int | None = None) -> Tensor:
    """The sizes of axes ``start`` to ``end``, as Python slices."""
    first = max(start + x.ndim, 0) if start < 0 else start
    last = x.ndim if end is None else max(end + x.ndim, 0) if end < 0 else end
    device = x.device if isinstance(x, Tensor) else None
    return torch.tensor(x.shape[first:last], dtype=torch.int64, device=device)


@operator("Size", as_stored=True)
def size_of(x: Any) -> Tensor:
    """The number of elements."""
    device = x.device if isinstance(x, Tensor) else None
    return torch.tensor(prod(x.shape), dtype=torch.int64, device=device)


@operator("Reshape")
def reshape_to_attribute(
    x: Tensor, *, shape: Sequence[int] = (), consumed_inputs: Sequence[int] = ()
) -> Tensor:
    """The values in order, in ``shape``: 0 keeps a size, -1 is what is left."""
    return _reshaped(x, list(shape), keeps_zero=False)


@operator("Reshape", since=5, as_stored=True)
@moves_strings
def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """The values in order, in ``shape``: -1 is what is left, 0 keeps a size or is ``allowzero``."""
    return _reshaped(x, as_ints(shape), keeps_zero=bool(allowzero))


def _reshaped(x: Tensor, shape: list[int], *, keeps_zero: bool) -> Tensor:
    if not keeps_zero:
        if any(size == 0 and i >= x.dim() for i, size in enumerate(shape)):
            raise ValueError(f"shape {shape} keeps a size that {list(x.shape)} does not have")
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


@operator("Flatten", as_stored=True)
@moves_strings
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """A matrix: the axes before ``axis`` by those from it on."""
    if not -x.dim() <= axis <= x.dim():
        raise ValueError(f"axis {axis} of a tensor of rank {x.dim()}")
    axis += x.dim() if axis < 0 else 0
    if axis == 1 and x.dim() > 1:
        return torch.flatten(x, 1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Squeeze")
def squeeze_attribute(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Without the axes of size 1, or without those of them in ``axes``."""
    return _squeezed(x, axes)


@operator("Squeeze", since=13, as_stored=True)
@moves_strings
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without the axes of size 1, or without those of them in ``axes``."""
    return _squeezed(x, axes)


def _squeezed(x: Tensor, axes: Tensor | Sequence[int] | None) -> Tensor:
    if axes is None:
        return x.squeeze()
    found = axes_in(axes, x.dim())
    if any(x.shape[axis] != 1 for axis in found):
        raise ValueError(f"axes {found} of shape {list(x.shape)} are not all of size 1")
    return x.squeeze(found)


@operator("Unsqueeze")
def unsqueeze_attribute(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """With axes of size 1 inserted: ``axes`` of the result."""
    return _unsqueezed(x, axes)


@operator("Unsqueeze", since=13, as_stored=True)
@moves_strings
def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    """With axes of size 1 inserted: ``axes`` of the result."""
    return _unsqueezed(x, axes)


def _unsqueezed(x: Tensor, axes: Tensor | Sequence[int]) -> Tensor:
    given = as_ints(axes)
    for axis in sorted(axes_in(given, x.dim() + len(given))):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose", as_stored=True)
@moves_strings
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Axes in the order of ``perm``, or reversed."""
    order = range(x.dim())[::-1] if perm is None else axes_in(perm, x.dim())
    return x.permute(*order)


@operator("Expand", as_stored=True)
@moves_strings
def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast together with ``shape``."""
    return x.expand(torch.broadcast_shapes(x.shape, as_ints(shape)))


@operator("Tile")
def tile_axis(x: Tensor, tiles: Tensor, axis: Tensor) -> Tensor:
    """Repeated along one axis."""
    repeats = [1] * x.dim()
    repeats[axis_in(as_ints(axis)[0], x.dim())] = as_ints(tiles)[0]
    return x.repeat(repeats)


@operator("Tile", since=6, as_stored=True)
@moves_strings
def tile(x: Tensor, repeats: Tensor) -> Tensor:
    """Repeated along each axis."""
    counts = as_ints(repeats)
    if len(counts) != x.dim():
        raise ValueError(f"{len(counts)} repeats for a tensor of rank {x.dim()}")
    return x.repeat(counts)
