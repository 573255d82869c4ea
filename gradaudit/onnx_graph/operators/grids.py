"""Sampling at the places of a grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


@operator("GridSample", since=16)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """X (N, C, ...) at ``grid`` (N, ..., axes), whose -1 and 1 are X's borders: (N, C, ...)."""
    if mode not in _MODES:
        raise ValueError(f"expected a mode of {', '.join(_MODES)}, found {mode!r}")
    settings = (_MODES[mode], padding_mode, bool(align_corners))
    if x.dim() != 3:
        return F.grid_sample(x, grid.to(x.dtype), *settings)
    # torch has no grids of one axis: a second one of a single element, met in its middle
    flat = torch.stack([grid[..., 0], torch.zeros_like(grid[..., 0])], -1)
    return F.grid_sample(x[:, :, None], flat[:, None].to(x.dtype), *settings)[:, :, 0]


@operator("AffineGrid", since=20)
def affine_grid(theta: Tensor, size: Tensor, *, align_corners: int = 0) -> Tensor:
    """The grid of an image of ``size`` (N, C, ...) that ``theta`` (N, axes, axes + 1) maps."""
    return F.affine_grid(theta, size.tolist(), bool(align_corners))
