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
    """An axis to make ``length`` long, and where the region of interest starts and ends on it."""

    dim: int
    size: int
    length: int
    exact: float  # the length that the scale asks for, which need not be whole
    start: float = 0.0
    end: float = 1.0

    @property
    def kept(self) -> bool:
        """Whether nothing is to be done."""
        whole = self.start == 0 and self.end == 1
        return self.length == self.size == self.exact and whole

    @property
    def scale(self) -> float:
        """New elements per old one."""
        return self.exact / self.size


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


_MODES = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}


def resampled(x: Tensor, axes: Sequence[Axis], way: Way) -> Tensor:
    """``x`` with these axes resampled."""
    if way.mode not in ("nearest", "linear", "cubic"):
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
    if way.transformation not in _TRANSFORMATIONS:
        names = ", ".join(_TRANSFORMATIONS)
        raise ValueError(f"expected a transformation of {names}, found {way.transformation!r}")
    return _TRANSFORMATIONS[way.transformation](i, axis)


def _cropping(i: Tensor, axis: Axis) -> Tensor:
    last = axis.size - 1
    if axis.exact <= 1:
        return torch.full_like(i, 0.5 * (axis.start + axis.end) * last)
    return axis.start * last + i * (axis.end - axis.start) * last / (axis.exact - 1)


def _asymmetric(i: Tensor, axis: Axis) -> Tensor:
    return i * axis.size / axis.exact


def _half_pixel(i: Tensor, axis: Axis) -> Tensor:
    return _asymmetric(i + 0.5, axis) - 0.5


def _aligned(i: Tensor, axis: Axis) -> Tensor:
    return i * (axis.size - 1) / (axis.exact - 1) if axis.exact > 1 else torch.zeros_like(i)


_TRANSFORMATIONS: dict[str, Callable[[Tensor, Axis], Tensor]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": lambda i, axis: (
        axis.size / 2 * (1 - axis.length / axis.exact) + _half_pixel(i, axis)
    ),
    "pytorch_half_pixel": lambda i, axis: (
        _half_pixel(i, axis) if axis.length > 1 else torch.zeros_like(i)
    ),
    "align_corners": _aligned,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": lambda i, axis: _asymmetric(i + 0.5, axis),
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
    # scales are float32: what is halfway but for their rounding is so again in that type
    positions = _positions(axis, way).to(torch.float32)
    return _NEAREST[name](positions).to(torch.int64).clamp(0, axis.size - 1)


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
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total == 0, torch.ones_like(total), total)
    places = indices.to(torch.int64).clamp(0, axis.size - 1).to(x.device)
    weights = weights.to(x.device, x.dtype).reshape(*places.shape, *[1] * (x.dim() - 1 - axis.dim))
    taps = x.index_select(axis.dim, places.flatten()).unflatten(axis.dim, places.shape)
    return (taps * weights).sum(axis.dim + 1)


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
    """What torch itself interpolates, where it does so in the same way."""
    spatial = x.dim() - 2
    known = spatial in (1, 2, 3) and x.is_floating_point() and all(a.dim >= 2 for a in axes)
    if not known or way.antialias or way.exclude_outside:
        return None
    lengths, scales = list(x.shape[2:]), [1.0] * spatial
    for axis in axes:
        lengths[axis.dim - 2], scales[axis.dim - 2] = axis.length, axis.scale
    if way.mode == "nearest":
        same = way.transformation != "tf_crop_and_resize" and all(_as_torch(a, way) for a in axes)
        return F.interpolate(x, lengths) if same else None
    mode, aligned = _MODES.get((way.mode, spatial)), _aligns_corners(axes, way)
    if mode is None or aligned is None:
        return None
    if all(axis.length == axis.exact for axis in axes):
        return F.interpolate(x, lengths, mode=mode, align_corners=aligned)
    if aligned or not all(_goes_by_scale(axis) for axis in axes):
        return None
    return F.interpolate(x, scale_factor=scales, mode=mode, align_corners=False)


def _aligns_corners(axes: Sequence[Axis], way: Way) -> bool | None:
    """What to tell torch, if it knows this transformation and kernel."""
    if way.mode == "cubic" and way.cubic_a != -0.75:
        return None
    if way.transformation == "pytorch_half_pixel":
        return None if any(axis.length == 1 for axis in axes) else False
    return {"align_corners": True, "half_pixel": False}.get(way.transformation)


def _goes_by_scale(axis: Axis) -> bool:
    """Whether torch, given the scale alone, makes the axis as long and resamples it by that."""
    return axis.length != axis.size and int(axis.size * axis.scale) == axis.length


def _as_torch(axis: Axis, way: Way) -> bool:
    steps = torch.arange(axis.length, dtype=torch.float32) * (axis.size / axis.length)
    return torch.equal(_nearest(axis, way), steps.floor().to(torch.int64))
