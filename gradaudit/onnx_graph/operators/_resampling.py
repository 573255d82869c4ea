"""Resampling along axes, one after the other: by nearest elements, linear or cubic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """An axis to make ``length`` long; ``start`` and ``end`` are those of the region of interest."""

    dim: int
    size: int
    length: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def kept(self) -> bool:
        """Whether nothing is to be done."""
        whole = self.start == 0 and self.end == 1
        return self.length == self.size and math.isclose(self.scale, 1) and whole


@dataclass(frozen=True)
class Way:
    """How to resample, by the names of ONNX's attributes."""

    mode: str
    transformation: str
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    outside: float = 0.0


def resampled(x: Tensor, axes: Sequence[Axis], way: Way) -> Tensor:
    """``x`` with these axes resampled."""
    if way.mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise ValueError(f"expected mode nearest, linear or cubic, found {way.mode!r}")
    axes = [axis for axis in axes if not axis.kept]
    if any(axis.length == 0 for axis in axes):
        lengths = {axis.dim: axis.length for axis in axes}
        return x.new_zeros([lengths.get(dim, n) for dim, n in enumerate(x.shape)])
    fused = _fused(x, axes, way) if axes else x
    if fused is not None:
        return fused
    if way.mode == "nearest":
        for axis in axes:
            picked = x.index_select(axis.dim, _nearest(axis, way).to(x.device))
            x = _cropped(picked, axis, way)
        return x
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide if x.is_floating_point() else x.to(torch.float64)
    for axis in axes:
        wide = _cropped(_filtered(wide, axis, way), axis, way)
    if x.is_floating_point():
        return wide.to(x.dtype)
    limits = torch.iinfo(x.dtype)
    return wide.round().clamp(limits.min, limits.max).to(x.dtype)


def _positions(axis: Axis, way: Way) -> Tensor:
    """Where in the given axis each new element lies, as float64 on the CPU."""
    i = torch.arange(axis.length, dtype=torch.float64)
    exact = axis.scale * axis.size  # the length before it was made whole
    last = axis.size - 1
    if way.transformation not in _TRANSFORMATIONS:
        names = ", ".join(_TRANSFORMATIONS)
        raise ValueError(f"expected a transformation of {names}, found {way.transformation!r}")
    return _TRANSFORMATIONS[way.transformation](i, axis, exact, last)


def _cropping(i: Tensor, axis: Axis, exact: float, last: int) -> Tensor:
    if exact <= 1:
        return torch.full_like(i, 0.5 * (axis.start + axis.end) * last)
    return axis.start * last + i * (axis.end - axis.start) * last / (exact - 1)


def _half_pixel(i: Tensor, axis: Axis, exact: float, last: int) -> Tensor:
    return (i + 0.5) / axis.scale - 0.5


_TRANSFORMATIONS: dict[str, Callable[[Tensor, Axis, float, int], Tensor]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": lambda i, axis, exact, last: (
        axis.size / 2 * (1 - axis.length / exact) + _half_pixel(i, axis, exact, last)
    ),
    "pytorch_half_pixel": lambda i, axis, exact, last: (
        _half_pixel(i, axis, exact, last) if axis.length > 1 else torch.zeros_like(i)
    ),
    "align_corners": lambda i, axis, exact, last: (
        i * last / (exact - 1) if exact > 1 else torch.zeros_like(i)
    ),
    "asymmetric": lambda i, axis, exact, last: i / axis.scale,
    "tf_half_pixel_for_nn": lambda i, axis, exact, last: (i + 0.5) / axis.scale,
    "tf_crop_and_resize": _cropping,
}

_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda at: (at - 0.5).ceil(),
    "round_prefer_ceil": lambda at: (at + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _nearest(axis: Axis, way: Way) -> Tensor:
    name = way.nearest
    if name == "ceil_to_shrink":  # of the versions that had no attribute for it
        name = "ceil" if axis.scale < 1 else "floor"
    if name not in _NEAREST:
        raise ValueError(f"expected a nearest_mode of {', '.join(_NEAREST)}, found {name!r}")
    indices = _NEAREST[name](_positions(axis, way)).to(torch.int64)
    return indices.clamp(0, axis.size - 1)


def _filtered(x: Tensor, axis: Axis, way: Way) -> Tensor:
    """The weighted sum of the elements around each position, the first and last repeated."""
    at = _positions(axis, way)
    stretch = max(1.0, 1 / axis.scale) if way.antialias else 1.0
    reach = math.ceil((2 if way.mode == "cubic" else 1) * stretch)
    indices = at.floor()[:, None] + torch.arange(1 - reach, reach + 1)
    distances = (indices - at[:, None]).abs() / stretch
    if way.mode == "cubic":
        weights = _cubic(distances, way.cubic_a)
    else:
        weights = (1 - distances).clamp_min(0)
    if way.exclude_outside:
        weights = weights * ((indices >= 0) & (indices < axis.size))
    if way.exclude_outside or way.antialias:
        weights = weights / weights.sum(1, keepdim=True)
    places = indices.to(torch.int64).clamp(0, axis.size - 1).to(x.device)
    weights = weights.to(x.device, x.dtype)
    shape = (-1, *[1] * (x.dim() - 1 - axis.dim))
    taps = [
        x.index_select(axis.dim, places[:, tap]) * weights[:, tap].reshape(shape)
        for tap in range(2 * reach)
    ]
    return torch.stack(taps).sum(0) if len(taps) > 4 else sum(taps[1:], taps[0])


def _cubic(t: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel at distances ``t``."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _cropped(x: Tensor, axis: Axis, way: Way) -> Tensor:
    if way.transformation != "tf_crop_and_resize":
        return x
    at = _positions(axis, way)
    outside = ((at < 0) | (at > axis.size - 1)).to(x.device)
    shape = (-1, *[1] * (x.dim() - 1 - axis.dim))
    return x.masked_fill(outside.reshape(shape), way.outside)


def _fused(x: Tensor, axes: Sequence[Axis], way: Way) -> Tensor | None:
    """Torch's own interpolation, where it is the same."""
    spatial = x.dim() - 2
    if spatial not in (1, 2, 3) or not x.is_floating_point() or any(a.dim < 2 for a in axes):
        return None
    if way.transformation == "tf_crop_and_resize" or way.antialias or way.exclude_outside:
        return None
    lengths, scales = list(x.shape[2:]), [1.0] * spatial
    for axis in axes:
        lengths[axis.dim - 2], scales[axis.dim - 2] = axis.length, axis.scale
    if way.mode == "nearest":
        return F.interpolate(x, lengths) if all(_as_torch(a, way) for a in axes) else None
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[spatial]
    if way.mode == "cubic":
        if spatial != 2 or way.cubic_a != -0.75:
            return None
        mode = "bicubic"
    if all(_aligned(axis, way) for axis in axes):
        return F.interpolate(x, lengths, mode=mode, align_corners=True)
    if not all(_centred(axis, way) for axis in axes):
        return None
    if all(axis.scale == axis.length / axis.size for axis in axes):
        return F.interpolate(x, lengths, mode=mode, align_corners=False)
    return F.interpolate(x, scale_factor=scales, mode=mode, align_corners=False)


def _as_torch(axis: Axis, way: Way) -> bool:
    steps = torch.arange(axis.length, dtype=torch.float32) * (axis.size / axis.length)
    return torch.equal(_nearest(axis, way), steps.floor().to(torch.int64))


def _aligned(axis: Axis, way: Way) -> bool:
    return way.transformation == "align_corners" and axis.scale * axis.size == axis.length


def _centred(axis: Axis, way: Way) -> bool:
    if way.transformation == "pytorch_half_pixel":
        return axis.length > 1 and int(axis.size * axis.scale) == axis.length
    return way.transformation == "half_pixel" and int(axis.size * axis.scale) == axis.length
