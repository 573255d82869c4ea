"""Convolution as every operator that contains one does it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._windows import padded, windows

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolved(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    *,
    auto_pad: str,
    dilations: Sequence[int] | None,
    group: int,
    kernel_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Tensor:
    """``x`` (N, C, ...) with ``w`` (M, C/group, ...): (N, M, ...)."""
    check_kernel(x, w, kernel_shape)
    at = windows(
        x.shape[2:],
        w.shape[2:],
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
    )
    convolution = _CONVOLUTIONS[len(at.kernel)]
    padding = at.symmetric
    if padding is None:
        x, padding = padded(x, at.pads), (0,) * len(at.kernel)
    result: Tensor = convolution(x, w, bias, at.strides, padding, at.dilations, group)
    return result


def check_kernel(x: Tensor, w: Tensor, kernel_shape: Sequence[int] | None) -> None:
    """Whether the weight is as the attribute says, and has an axis for each of the input's."""
    if x.dim() != w.dim():
        raise ValueError(f"expected a weight of rank {x.dim()}, found shape {list(w.shape)}")
    if kernel_shape is not None and list(kernel_shape) != list(w.shape[2:]):
        raise ValueError(
            f"expected a kernel of shape {list(kernel_shape)}, found {list(w.shape[2:])}"
        )
