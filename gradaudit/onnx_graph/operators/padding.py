"""Padding, cropping, and blocks of space as depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gradaudit.onnx_graph.operators._axes import as_ints, axes_in, one_of
from gradaudit.onnx_graph.operators._constants import varies
from gradaudit.onnx_graph.operators._strings import moves_strings
from gradaudit.onnx_graph.registry import operator

_Widths = list[tuple[int, int]]  # by axis: before and after; negative where cut off


@operator("Pad")
def pad_by_paddings(
    x: Tensor, *, paddings: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """``x`` with ``paddings`` at the begin of all axes, then at the end of all."""
    return _padded(x, list(paddings), mode, x.new_tensor(value), None)


@operator("Pad", since=2)
def pad_by_attributes(
    x: Tensor, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """``x`` with ``pads`` at the begin of all axes, then at the end of all."""
    return _padded(x, list(pads), mode, x.new_tensor(value), None)


@operator("Pad", since=11)
@moves_strings
def pad(
    x: Tensor,
    pads: Tensor,
    constant_value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """As before opset 11, with ``pads`` for the ``axes`` given."""
    return _padded(x, as_ints(pads), mode, constant_value, axes)


def _padded(
    x: Tensor, pads: list[int], mode: str, value: Tensor | None, axes: Tensor | None
) -> Tensor:
    one_of(mode, "constant", "reflect", "edge", "wrap")
    along = list(range(x.dim())) if axes is None else axes_in(axes, x.dim())
    if len(pads) != 2 * len(along):
        raise ValueError(f"{len(pads)} pads for {len(along)} axes, not two for each")
    widths = [(0, 0)] * x.dim()
    for axis, before, after in zip(along, pads, pads[len(along) :], strict=False):
        widths[axis] = (before, after)
    if mode == "constant":
        return _with_constant(x, widths, value)
    if min(pads, default=0) < 0:
        x = F.pad(x, _flat([(min(a, 0), min(b, 0)) for a, b in widths]))
    return _with_own(x, [(max(a, 0), max(b, 0)) for a, b in widths], mode)


def _flat(widths: _Widths) -> list[int]:
    """Torch's order: the last axis first."""
    return [width for pair in reversed(widths) for width in pair]


def _with_constant(x: Tensor, widths: _Widths, value: Tensor | None) -> Tensor:
    if value is None:
        return F.pad(x, _flat(widths))
    value = value.reshape(())
    if not varies(value):
        return F.pad(x, _flat(widths), value=value.item())
    inside = F.pad(torch.ones_like(x, dtype=torch.bool), _flat(widths))
    return torch.where(inside, F.pad(x, _flat(widths)), value)


def _with_own(x: Tensor, widths: _Widths, mode: str) -> Tensor:
    """Padded with its own elements."""
    last = max((x.dim() - i for i, pair in enumerate(widths) if any(pair)), default=0)
    if mode != "wrap" and x.is_floating_point() and _is_fused(x, widths, last, mode):
        torchs = "reflect" if mode == "reflect" else "replicate"
        return F.pad(x, _flat(widths[-last:]), mode=torchs)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = x.index_select(axis, _sources(x, axis, before, after, mode))
    return x


def _is_fused(x: Tensor, widths: _Widths, last: int, mode: str) -> bool:
    """Whether torch pads the last axes so: one to three of them, below one or two others."""
    reaches = mode != "reflect" or all(
        max(pair) < n for pair, n in zip(widths, x.shape, strict=True)
    )
    return 0 < last <= 3 and x.dim() - last in (1, 2) and reaches and 0 not in x.shape


def _sources(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """The position on the axis that each position of the padded axis takes its element from."""
    size = x.shape[axis]
    if not size:
        raise ValueError(f"mode {mode} pads axis {axis}, which is empty")
    position = torch.arange(-before, size + after, device=x.device)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position % size
    period = max(2 * (size - 1), 1)
    position = position % period
    return torch.where(position < size, position, period - position)


@operator("CenterCropPad")
@moves_strings
def center_crop_pad(x: Tensor, shape: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Cropped or padded with zeros on both sides to ``shape``; an odd one goes at the end."""
    along = list(range(x.dim())) if axes is None else axes_in(axes, x.dim())
    sizes = as_ints(shape)
    if len(sizes) != len(along):
        raise ValueError(f"shape {sizes} for {len(along)} axes")
    widths = [(0, 0)] * x.dim()
    for axis, size in zip(along, sizes, strict=True):
        more = size - x.shape[axis]
        half = abs(more) // 2
        widths[axis] = (half, more - half) if more > 0 else (-half, more + half)
    return F.pad(x, _flat(widths))


@operator("DepthToSpace")
@moves_strings
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """``[N, C·b·b, H, W]`` to ``[N, C, H·b, W·b]``; the blocks lie before or after C in depth."""
    one_of(mode, "DCR", "CRD")
    if mode == "DCR":
        n, depth, height, width = x.shape
        blocks = x.reshape(n, blocksize**2, depth // blocksize**2, height, width)
        x = blocks.transpose(1, 2).reshape(x.shape)
    return F.pixel_shuffle(x, blocksize)


@operator("SpaceToDepth")
@moves_strings
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """``[N, C, H·b, W·b]`` to ``[N, C·b·b, H, W]``; the blocks lie before or after C in depth."""
    one_of(mode, "DCR", "CRD")
    y = F.pixel_unshuffle(x, blocksize)
    if mode == "CRD":
        return y
    n, depth, height, width = y.shape
    blocks = y.reshape(n, depth // blocksize**2, blocksize**2, height, width)
    return blocks.transpose(1, 2).reshape(y.shape)
