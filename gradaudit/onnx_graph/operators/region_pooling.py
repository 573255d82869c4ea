"""Pooling over regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator


@dataclass(frozen=True)
class _Samples:
    """Sampling points of every region along one axis of ``size`` elements."""

    places: Tensor  # (regions, bins, most points a bin)
    counted: Tensor  # which of them are points of the region that lie in the image
    points: Tensor  # (regions,): how many a bin has
    size: int

    def weights(self) -> Tensor:
        """How much each element is worth to each bin's mean: (regions, bins, size)."""
        elements = torch.arange(self.size, device=self.places.device)
        near = torch.relu(1 - (self.places[..., None] - elements).abs())
        total = (near * self.counted[..., None]).sum(2)
        return total / self.points[:, None, None]

    def neighbours(self, region: int) -> list[tuple[Tensor, Tensor]]:
        """For one region the element below each point and that above, with their shares."""
        points = int(self.points[region])
        places, counted = self.places[region, :, :points], self.counted[region, :, :points]
        below = places.floor()
        share = places - below
        low = below.to(torch.int64)
        high = (low + 1).clamp_max(self.size - 1)
        return [(low, (1 - share) * counted), (high, share * counted)]


@operator("RoiAlign", since=10)
def roi_align_unshifted(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """:func:`roi_align` before it knew of a shift by half a pixel."""
    return roi_align(
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


@operator("RoiAlign", since=16)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Mean or largest of X's interpolated values in each bin of each region: (R, C, h, w)."""
    if x.dim() != 4 or rois.dim() != 2 or rois.shape[1] != 4:
        found = f"{list(x.shape)} and {list(rois.shape)}"
        raise ValueError(f"expected X (N, C, H, W) and rois (R, 4), found {found}")
    aligned = coordinate_transformation_mode == "half_pixel"
    corners = rois.to(torch.promote_types(rois.dtype, torch.float32)) * spatial_scale
    corners = corners - 0.5 if aligned else corners
    down, across = (
        _sampled(corners[:, i], corners[:, i + 2], bins, sampling_ratio, size=size, aligned=aligned)
        for i, bins, size in ((1, output_height, x.shape[2]), (0, output_width, x.shape[3]))
    )
    images = batch_indices.tolist()
    if not images:
        return x.new_zeros(0, x.shape[1], output_height, output_width)
    return _maxima(x, images, down, across) if mode == "max" else _means(x, images, down, across)


def _sampled(
    start: Tensor, end: Tensor, bins: int, ratio: int, *, size: int, aligned: bool
) -> _Samples:
    length = end - start if aligned else (end - start).clamp_min(1)
    points = (length / bins).ceil() if ratio <= 0 else torch.full_like(length, ratio)
    points = points.detach().clamp_min(0)
    most = max(1, int(points.max())) if points.numel() else 1
    step = torch.arange(most, device=start.device)
    per_bin = points.clamp_min(1)[:, None, None]
    bin_number = torch.arange(bins, device=start.device)[:, None]
    places = start[:, None, None] + (bin_number + (step + 0.5) / per_bin) * (
        length[:, None, None] / bins
    )
    counted = (places >= -1) & (places <= size) & (step < points[:, None, None])
    return _Samples(places.clamp(0, size - 1), counted, points.clamp_min(1), size)


def _means(x: Tensor, images: Sequence[int], down: _Samples, across: _Samples) -> Tensor:
    rows, columns = down.weights().to(x.dtype), across.weights().to(x.dtype)
    found: dict[int, list[int]] = {}
    for region, image in enumerate(images):
        found.setdefault(image, []).append(region)
    parts = [
        torch.einsum("rph,chw,rqw->rcpq", rows[regions], x[image], columns[regions])
        for image, regions in found.items()
    ]
    order = [region for regions in found.values() for region in regions]
    back = torch.tensor(order, device=x.device).argsort()
    return torch.cat(parts)[back]


def _maxima(x: Tensor, images: Sequence[int], down: _Samples, across: _Samples) -> Tensor:
    """The largest of the four weighted neighbours of any point, as ONNX has it."""
    results = []
    for region, image in enumerate(images):
        rows, columns = down.neighbours(region), across.neighbours(region)
        values = [
            x[image][:, row][..., column] * (high[:, :, None, None] * wide).to(x.dtype)
            for (row, high), (column, wide) in product(rows, columns)
        ]
        results.append(torch.stack(values).amax((0, 3, 5)))
    return torch.stack(results)


@operator("MaxRoiPool")
def max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """The largest element in each bin of each region of whole pixels: (R, C, h, w)."""
    if x.dim() != 4 or rois.dim() != 2 or rois.shape[1] != 5:
        found = f"{list(x.shape)} and {list(rois.shape)}"
        raise ValueError(f"expected X (N, C, H, W) and rois (R, 5), found {found}")
    # halves away from zero
    corners = (rois[:, 1:] * spatial_scale + 0.5).floor().to(torch.int64).tolist()
    pooled = [
        _pooled(x[image], corner, pooled_shape)
        for image, corner in zip(rois[:, 0].to(torch.int64).tolist(), corners, strict=True)
    ]
    return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], *pooled_shape)


def _pooled(image: Tensor, corner: Sequence[int], shape: Sequence[int]) -> Tensor:
    height, width = image.shape[1:]
    left, top, right, bottom = corner
    right, bottom = max(right, left), max(bottom, top)
    # a negative padding cuts, so that the region is left, whether or not it lies in the image
    sides = [-left, right + 1 - width, -top, bottom + 1 - height]
    region = F.pad(image, sides, value=float("-inf"))
    values = F.adaptive_max_pool2d(region, tuple(shape))
    return torch.where(values == float("-inf"), torch.zeros_like(values), values)
