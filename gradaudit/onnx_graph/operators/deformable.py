"""Convolution with windows that are bent by offsets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._convolution import check_kernel
from gradaudit.onnx_graph.operators._windows import Windows, windows
from gradaudit.onnx_graph.registry import operator


@operator("DeformConv", since=19)
def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """``Y[m, o] = Σ_ck W[m, c, k] mask[k, o] X[c, s o + d k + offset[k, o]] + B[m]``, X linear
    between its elements and zero outside.
    """
    check_kernel(x, w, kernel_shape)
    at = windows(x.shape[2:], w.shape[2:], strides=strides, dilations=dilations, pads=pads)
    taps, rank, outputs = w[0, 0].numel(), len(at.kernel), offset.shape[2:]
    if x.shape[1] % offset_group or offset.shape[1] != offset_group * taps * rank:
        raise ValueError(
            f"expected {offset_group} groups of {taps * rank} offsets, "
            f"found shape {list(offset.shape)} for {x.shape[1]} channels"
        )
    offsets = offset.reshape(x.shape[0], offset_group, taps, rank, -1)
    planes = x.reshape(x.shape[0], offset_group, -1, *x.shape[2:])
    columns = _sampled(planes, _places(at, outputs, x.device) + offsets)
    if mask is not None:
        columns = columns * mask.reshape(x.shape[0], offset_group, 1, taps, -1)
    blocks = columns.reshape(x.shape[0], group, -1, columns.shape[-1])
    result = w.reshape(group, w.shape[0] // group, -1) @ blocks
    result = result.reshape(x.shape[0], w.shape[0], *outputs)
    return result if b is None else result + b.reshape(-1, *[1] * rank)


def _places(at: Windows, outputs: Sequence[int], device: torch.device) -> Tensor:
    """Where each tap of each output lies without offset: (taps, axes, outputs)."""
    taps = torch.cartesian_prod(*[torch.arange(k) for k in at.kernel]).reshape(-1, len(at.kernel))
    corners = torch.cartesian_prod(*[torch.arange(n) for n in outputs]).reshape(-1, len(outputs))
    begins = torch.tensor([begin for begin, _ in at.pads])
    starts = corners * torch.tensor(at.strides) - begins
    within = taps * torch.tensor(at.dilations)
    return (within[:, :, None] + starts.T).to(device)


def _sampled(planes: Tensor, places: Tensor) -> Tensor:
    """``planes`` (N, G, C, ...) at ``places`` (N, G, K, axes, O), linearly: (N, G, C, K, O)."""
    sizes = planes.shape[3:]
    below = places.floor()
    part = places - below
    flat = planes.flatten(3)
    total = torch.zeros((), dtype=planes.dtype, device=planes.device)
    for corner in product((0, 1), repeat=len(sizes)):
        index = torch.zeros_like(below[:, :, :, 0], dtype=torch.int64)
        weight = torch.ones_like(below[:, :, :, 0])
        for axis, (bit, size) in enumerate(zip(corner, sizes, strict=True)):
            at = below[:, :, :, axis].to(torch.int64) + bit
            share = part[:, :, :, axis] if bit else 1 - part[:, :, :, axis]
            weight = weight * share * ((at >= 0) & (at < size))
            index = index * size + at.clamp(0, size - 1)
        wanted = index.flatten(2)[:, :, None].expand(-1, -1, flat.shape[2], -1)
        values = flat.gather(3, wanted).unflatten(3, index.shape[2:])
        total = total + values * weight[:, :, None]
    return total
