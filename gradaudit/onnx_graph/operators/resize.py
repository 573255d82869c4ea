"""Resampling of images to other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._resampling import Axis, Way, resampled
from gradaudit.onnx_graph.registry import operator

_ROUNDING = torch.finfo(torch.float32).eps


@operator("Upsample", since=7)
def upsample_by_attribute(x: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    """:func:`upsample` with its scales an attribute."""
    return _scaled(x, scales, mode)


@operator("Upsample", since=9)
@operator("Resize", since=10)
def upsample(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """X with each axis ``floor(size * scale)`` long, element i taken from where i / scale is."""
    return _scaled(x, scales.tolist(), mode)


def _scaled(x: Tensor, scales: Sequence[float], mode: str) -> Tensor:
    axes = _axes(x, range(x.dim()), scales)
    way = Way(mode, "asymmetric", "ceil_to_shrink")
    return resampled(x, axes, way)


@operator("Resize", since=11)
def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """X resampled to ``sizes``, or by ``scales``, along ``axes``."""
    dims = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
    cropped = coordinate_transformation_mode == "tf_crop_and_resize"
    chosen = _axes(
        x,
        dims,
        None if scales is None or not scales.numel() else scales.tolist(),
        None if sizes is None or not sizes.numel() else sizes.tolist(),
        policy=keep_aspect_ratio_policy,
        roi=roi.tolist() if cropped and roi is not None else None,
    )
    way = Way(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(antialias),
        bool(exclude_outside),
        extrapolation_value,
    )
    return resampled(x, chosen, way)


def _axes(
    x: Tensor,
    dims: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None = None,
    *,
    policy: str = "stretch",
    roi: Sequence[float] | None = None,
) -> list[Axis]:
    if (scales is None) == (sizes is None):
        raise ValueError("expected either scales or sizes, found both or neither")
    given = len(scales if scales is not None else sizes or ())
    if given != len(dims):
        raise ValueError(f"expected {len(dims)} scales or sizes, found {given}")
    before = [x.shape[dim] for dim in dims]
    if scales is not None:
        exact = [_product(n, scale) for n, scale in zip(before, scales, strict=True)]
        lengths = [int(each) for each in exact]
    else:
        exact = _lengths(before, sizes or (), policy)
        lengths = [int(each + 0.5) for each in exact]
    ends = [1.0] * len(dims) if roi is None else roi[len(dims) :]
    starts = [0.0] * len(dims) if roi is None else roi[: len(dims)]
    rows = zip(dims, before, lengths, exact, starts, ends, strict=True)
    return [Axis(*row) for row in rows]


def _product(size: int, scale: float) -> float:
    """A size times a scale that was rounded to float32: whole where it would be without that."""
    exact = size * scale
    return float(round(exact)) if math.isclose(exact, round(exact), rel_tol=_ROUNDING) else exact


def _lengths(before: Sequence[int], sizes: Sequence[int], policy: str) -> list[float]:
    """The sizes, or those that keep the ratio of the axes."""
    if policy == "stretch":
        return [float(each) for each in sizes]
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(
            "expected keep_aspect_ratio_policy stretch, not_larger or not_smaller, "
            f"found {policy!r}"
        )
    ratios = [to / n for n, to in zip(before, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [n * scale for n in before]
