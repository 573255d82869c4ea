"""Convolutions and the sum of overlapping blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._convolution import check_kernel, convolved
from gradaudit.onnx_graph.operators._windows import (
    Pads,
    Windows,
    begin_end,
    halved,
    padded,
    per_axis,
    windows,
)
from gradaudit.onnx_graph.registry import operator

_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv")
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """``Y[m] = Σ_c W[m, c] ⋆ X[c] + B[m]``: (N, C, ...) to (N, M, ...)."""
    return convolved(
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )


@operator("ConvTranspose")
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The transpose of :func:`conv` in X: W is (C, M/group, ...), the result (N, M, ...)."""
    check_kernel(x, w, kernel_shape)
    at = windows(x.shape[2:], w.shape[2:], strides=strides, dilations=dilations, pads=pads)
    extra = (0,) * len(at.kernel)
    if output_padding is not None:
        extra = per_axis(output_padding, len(at.kernel), "output_padding")
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = [n * s for n, s in zip(x.shape[2:], at.strides, strict=True)]
    if output_shape is not None:
        cuts = _cuts(x.shape[2:], at, extra, output_shape[-len(at.kernel) :], auto_pad)
    else:
        cuts = at.pads if auto_pad != "VALID" else ((0, 0),) * len(at.kernel)
        cuts = tuple((begin, end - more) for (begin, end), more in zip(cuts, extra, strict=True))
    return _transposed(x, w, b, at, cuts=cuts, group=group)


def _cuts(
    sizes: Sequence[int],
    at: Windows,
    extra: Sequence[int],
    wanted: Sequence[int],
    auto_pad: str,
) -> Pads:
    """What to cut off before and after so that the wanted sizes are left; less than 0 adds."""
    cuts = []
    for size, stride, extent, more, length in zip(
        sizes, at.strides, at.extents, extra, wanted, strict=True
    ):
        whole = stride * (size - 1) + extent
        begin, _ = halved(max(0, whole + more - length), auto_pad)
        cuts.append((begin, whole - begin - length))
    return tuple(cuts)


def _transposed(
    x: Tensor, w: Tensor, b: Tensor | None, at: Windows, *, cuts: Pads, group: int
) -> Tensor:
    convolution = _TRANSPOSED[len(at.kernel)]
    begins = [begin for begin, _ in cuts]
    more = [begin - end for begin, end in cuts]  # torch cuts as much after, but for this
    if all(
        begin >= 0 and 0 <= add < max(stride, dilation)
        for begin, add, stride, dilation in zip(begins, more, at.strides, at.dilations, strict=True)
    ):
        result: Tensor = convolution(x, w, b, at.strides, begins, more, group, at.dilations)
        return result
    whole = convolution(x, w, None, at.strides, 0, 0, group, at.dilations)
    result = padded(whole, tuple((-begin, -end) for begin, end in cuts))
    return result if b is None else result + b.reshape(-1, *[1] * len(at.kernel))


@operator("CausalConvWithState", since=27)
def causal_conv_with_state(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    past: Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution of past and present (B, C, L), and the last k - 1 values of both."""
    if x.dim() != 3 or w.dim() != 3:
        found = f"{list(x.shape)} and {list(w.shape)}"
        raise ValueError(f"expected input (B, C, L) and weight (C, 1, k), found {found}")
    if activation not in ("none", "silu", "swish"):
        raise ValueError(f"expected activation none, silu or swish, found {activation!r}")
    before = w.shape[2] - 1
    whole = F.pad(x, [before, 0]) if past is None else torch.cat([past, x], 2)
    result = F.conv1d(whole, w, bias, groups=x.shape[1])
    state = whole[..., whole.shape[2] - before :]
    return (result if activation == "none" else F.silu(result)), state


@operator("Col2Im", since=18)
def col2im(
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Blocks (N, C * block, L) added up in an image (N, C, ...)."""
    image, block = tuple(image_shape.tolist()), tuple(block_shape.tolist())
    rank = len(image)
    around = begin_end(pads, rank)
    sizes = tuple(n + begin + end for n, (begin, end) in zip(image, around, strict=True))
    steps, spread = per_axis(strides, rank, "strides"), per_axis(dilations, rank, "dilations")
    inside = tuple((-begin, -end) for begin, end in around)
    if rank == 2:
        return padded(F.fold(x, sizes, block, dilation=spread, stride=steps), inside)
    return padded(_folded(x, sizes, block, spread, steps), inside)


def _folded(
    x: Tensor,
    sizes: Sequence[int],
    block: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
) -> Tensor:
    """``F.fold`` on any number of axes."""
    places = torch.zeros(1, 1, dtype=torch.int64, device=x.device)  # (block, L) in the flat image
    for size, k, dilation, stride in zip(sizes, block, dilations, strides, strict=True):
        starts = torch.arange(0, size - dilation * (k - 1), stride, device=x.device)
        along = torch.arange(k, device=x.device)[:, None] * dilation + starts
        places = places[:, None, :, None] * size + along[None, :, None, :]
        places = places.flatten(2).flatten(0, 1)
    if x.dim() != 3 or x.shape[1] % places.shape[0] or x.shape[2] != places.shape[1]:
        blocks = f"(N, C * {places.shape[0]}, {places.shape[1]})"
        raise ValueError(f"expected blocks {blocks}, found shape {list(x.shape)}")
    columns = x.reshape(x.shape[0], -1, places.numel())
    image = columns.new_zeros(*columns.shape[:2], torch.Size(sizes).numel())
    return image.index_add(2, places.flatten(), columns).unflatten(2, list(sizes))
