"""Where the windows of a convolution or a pooling lie on the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Pads = tuple[tuple[int, int], ...]

AUTO_PADS = ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Windows:
    """Kernel, strides, dilations, and padding before and after, by spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from a window's first to its last, by axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> tuple[int, ...] | None:
        """The padding, where it is the same on both sides and cuts nothing off."""
        same = all(begin == end >= 0 for begin, end in self.pads)
        return tuple(begin for begin, _ in self.pads) if same else None


def windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Windows:
    """The windows on axes of these ``sizes``, with the padding that ``auto_pad`` asks for."""
    rank = len(sizes)
    if not 1 <= rank <= 3:
        raise ValueError(f"expected 1 to 3 spatial axes, found {rank}")
    made = Windows(
        per_axis(kernel, rank, "kernel_shape"),
        per_axis(strides, rank, "strides"),
        per_axis(dilations, rank, "dilations"),
        begin_end(pads, rank),
    )
    if auto_pad not in AUTO_PADS:
        raise ValueError(f"expected auto_pad to be one of {AUTO_PADS}, found {auto_pad!r}")
    if auto_pad in ("NOTSET", ""):
        return made
    if auto_pad == "VALID":
        return Windows(made.kernel, made.strides, made.dilations, ((0, 0),) * rank)
    # as many outputs as steps of the stride fit in
    missing = [
        max(0, (-(-size // stride) - 1) * stride + extent - size)
        for size, stride, extent in zip(sizes, made.strides, made.extents, strict=True)
    ]
    halves = tuple(halved(each, auto_pad) for each in missing)
    return Windows(made.kernel, made.strides, made.dilations, halves)


def halved(total: int, auto_pad: str) -> tuple[int, int]:
    """A padding shared out: the odd one after with SAME_UPPER, else before."""
    less = total // 2
    return (less, total - less) if auto_pad == "SAME_UPPER" else (total - less, less)


def per_axis(values: Sequence[int] | None, rank: int, name: str) -> tuple[int, ...]:
    """One value for each spatial axis; ones where the attribute is left out."""
    if values is None:
        return (1,) * rank
    if len(values) != rank:
        raise ValueError(f"expected {rank} {name}, one a spatial axis, found {len(values)}")
    return tuple(values)


def begin_end(pads: Sequence[int] | None, rank: int) -> Pads:
    """ONNX's pads, all beginnings before all ends, as a pair for each axis."""
    if pads is None:
        return ((0, 0),) * rank
    if len(pads) != 2 * rank:
        raise ValueError(f"expected {2 * rank} pads, two a spatial axis, found {len(pads)}")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """``x`` with its last axes padded, or cut where a padding is negative."""
    if not any(begin or end for begin, end in pads):
        return x
    return F.pad(x, [each for pair in reversed(pads) for each in pair], value=value)
