"""Windows of a pooling: how many there are, and what lies in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._windows import Pads, Windows, windows


@dataclass(frozen=True)
class Grid:
    """The windows of a pooling on axes of ``sizes``, and how many of them there are by axis."""

    windows: Windows
    sizes: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def fitting(self) -> Pads:
        """The padding with which the last window ends where the axis does."""
        at = self.windows
        return tuple(
            (begin, (outputs - 1) * stride + extent - size - begin)
            for (begin, _), outputs, stride, extent, size in zip(
                at.pads, self.outputs, at.strides, at.extents, self.sizes, strict=True
            )
        )

    def counts(self, axis: int, with_pads: bool) -> list[int]:
        """For each window along an axis, its elements in the input, or the padded input."""
        at, size = self.windows, self.sizes[axis]
        begin, end = at.pads[axis]
        low, high = (-begin, size + end) if with_pads else (0, size)
        return [
            sum(
                low <= i * at.strides[axis] - begin + tap * at.dilations[axis] < high
                for tap in range(at.kernel[axis])
            )
            for i in range(self.outputs[axis])
        ]


def pooling_grid(
    x: Tensor,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> Grid:
    """The windows on ``x`` (N, C, ...)."""
    sizes = tuple(x.shape[2:])
    at = windows(sizes, kernel, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    outputs = []
    for size, (begin, end), stride, extent in zip(
        sizes, at.pads, at.strides, at.extents, strict=True
    ):
        room = size + begin + end - extent
        count = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + begin:
            count -= 1  # a window that starts in the padding at the end is none
        if count < 1:
            raise ValueError(f"expected windows of at most {size + begin + end}, found {extent}")
        outputs.append(count)
    return Grid(at, sizes, tuple(outputs))


def fused_padding(grid: Grid, auto_pad: str) -> tuple[int, ...] | None:
    """The padding to give torch's own pooling, if it can be given this one."""
    padding = grid.windows.symmetric
    halves = [extent // 2 for extent in grid.windows.extents]
    fits = padding is not None and all(p <= h for p, h in zip(padding, halves, strict=True))
    return padding if fits and not auto_pad.startswith("SAME") else None


def slid(x: Tensor, at: Windows, axis: int) -> Tensor:
    """The windows along one spatial axis, their elements along a new last one."""
    windows_of = x.unfold(axis + 2, at.extents[axis], at.strides[axis])
    return windows_of[..., :: at.dilations[axis]]


def flat_indices(
    indices: Tensor,
    within: Sequence[int],
    begins: Sequence[int],
    sizes: Sequence[int],
    storage_order: int,
) -> Tensor:
    """Indices in padded planes of shape ``within`` as indices in the whole flattened input."""
    places = []
    for size, begin in zip(reversed(within), reversed(begins), strict=True):
        places.append(indices % size - begin)
        indices = indices.div(size, rounding_mode="floor")
    # row major: the first axis is the slowest
    order = list(zip(places, reversed(sizes), strict=True))
    flat = torch.zeros_like(places[0])
    for place, size in order if storage_order else reversed(order):
        flat = flat * size + place
    planes = torch.arange(flat.shape[0] * flat.shape[1], device=flat.device)
    start = planes.reshape(flat.shape[0], flat.shape[1], *[1] * len(sizes))
    return flat + start * torch.Size(sizes).numel()
