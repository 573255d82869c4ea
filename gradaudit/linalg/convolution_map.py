"""A convolution as a linear map on the input it sees: products, adjoint, Frobenius norm, waves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.linalg.golub_kahan import LinearMap
from gradaudit.linalg.symbol import Peak

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_ADJOINT = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_FEW_ENTRIES = 2**15  # input plus output entries of a map that counts as small ...
_LITTLE_WORK = 2**17  # ... if one product takes no more multiplications


@dataclass(frozen=True)
class Convolution:
    """A convolution (torch's: a cross-correlation) as a linear map, by its kernel and geometry.

    ``kernel`` is (out, in / groups, *taps) with one to three tap dimensions, ``size`` the spatial
    size of the input, ``padding`` the entries added (before, after) in each dimension by ``mode``
    (one of torch's ``padding_mode``).
    """

    kernel: Tensor
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    mode: str = "zeros"

    @property
    def dimensions(self) -> int:
        """Number of spatial dimensions."""
        return self.kernel.ndim - 2

    @property
    def taps(self) -> tuple[int, ...]:
        """Entries of the kernel in each spatial dimension."""
        return tuple(self.kernel.shape[2:])

    @property
    def extent(self) -> tuple[int, ...]:
        """Span of the dilated kernel in each spatial dimension."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.taps, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Spatial size after padding."""
        return tuple(n + sum(p) for n, p in zip(self.size, self.padding, strict=True))

    @property
    def positions(self) -> tuple[int, ...]:
        """Spatial size of the output; not positive where the kernel does not fit."""
        sizes = zip(self.padded, self.extent, self.stride, strict=True)
        return tuple((n - e) // s + 1 for n, e, s in sizes)

    @property
    def in_channels(self) -> int:
        """Channels of the input, all groups together."""
        return self.kernel.shape[1] * self.groups

    @property
    def work(self) -> int:
        """Multiplications in one product."""
        return self.kernel.numel() * math.prod(self.positions)

    @property
    def small(self) -> bool:
        """Whether float64 and more steps cost milliseconds."""
        outputs = self.kernel.shape[0] * math.prod(self.positions)
        entries = self.in_channels * math.prod(self.size) + outputs
        return entries <= _FEW_ENTRIES and self.work <= _LITTLE_WORK

    def sources(self, dimension: int) -> Tensor:
        """Input index that each (output position, tap) reads along ``dimension``; -1 is padding."""
        n, (before, after) = self.size[dimension], self.padding[dimension]
        index = torch.arange(n, dtype=torch.float64).reshape(1, 1, n)
        if self.mode == "zeros":
            line = F.pad(index, (before, after), value=-1.0)
        else:
            line = F.pad(index, (before, after), mode=self.mode)
        starts = torch.arange(self.positions[dimension]) * self.stride[dimension]
        offsets = torch.arange(self.taps[dimension]) * self.dilation[dimension]
        return line.flatten()[starts[:, None] + offsets]


def normalised(convolution: Convolution) -> tuple[Convolution, float]:
    """``convolution`` with its kernel's largest entry in [1, 2), and what it was divided by.

    A power of two, so that no entry is rounded, and no square of one leaves its type's range.
    """
    kernel = convolution.kernel.detach()
    scale = math.ldexp(1.0, math.frexp(float(kernel.abs().max()))[1] - 1)
    dtype = torch.promote_types(kernel.dtype, torch.float32)
    return replace(convolution, kernel=(kernel.double() / scale).to(dtype)), scale


def convolution_map(convolution: Convolution) -> LinearMap:
    """``convolution`` in float64 where it is small or its kernel is float64, else in float32."""
    c = convolution
    here, there = (1, c.in_channels, *c.size), (1, c.kernel.shape[0], *c.positions)
    double = c.small or c.kernel.dtype == torch.float64
    kernel = c.kernel.detach().to(torch.float64 if double else torch.float32)
    plain = c.mode == "zeros" and all(before == after for before, after in c.padding)
    inner = tuple(p[0] for p in c.padding) if plain else (0,) * c.dimensions
    across = c.size if plain else c.padded
    # What conv_transpose cannot know: input entries behind the last kernel position.
    behind = tuple(
        (n + 2 * p - e) % s for n, p, e, s in zip(across, inner, c.extent, c.stride, strict=True)
    )

    def forward(x: Tensor) -> Tensor:
        image = x.reshape(here)
        if not plain:
            image = _pad(image, c)
        convolve = _FORWARD[c.dimensions]
        return convolve(image, kernel, None, c.stride, inner, c.dilation, c.groups).flatten()

    def adjoint(y: Tensor) -> Tensor:
        image = _ADJOINT[c.dimensions](
            y.reshape(there), kernel, None, c.stride, inner, behind, c.groups, c.dilation
        )
        return (image if plain else _unpad(image, c, here)).flatten()

    rows, columns = math.prod(there), math.prod(here)
    return LinearMap(forward, adjoint, rows, columns, kernel.dtype, kernel.device)


def operator_frobenius(convolution: Convolution) -> float:
    """Frobenius norm of ``convolution`` as a matrix, exactly, for any padding.

    ``sum_(t, t') <K_t, K_t'> prod_i M_i[t_i, t'_i]``, where ``M_i`` counts the output positions at
    which taps ``t`` and ``t'`` read the same input entry. Without reflected or repeated entries no
    two taps ever do, and only the diagonal is left.
    """
    convolution, scale = normalised(convolution)
    kernel = convolution.kernel.double().flatten(0, 1).cpu()
    sources = [convolution.sources(i) for i in range(convolution.dimensions)]
    counts = [(s >= 0).sum(0).double() for s in sources]
    if all(_distinct(s) for s in sources):
        total = kernel.square().sum(0)
        for count in reversed(counts):
            total = total @ count
        return scale * math.sqrt(float(total))
    taps = kernel.flatten(1)
    meets = torch.ones(1, 1, dtype=torch.float64)
    for source in sources:
        same = (source[:, :, None] == source[:, None, :]) & (source >= 0)[:, :, None]
        meets = torch.kron(meets, same.sum(0).double())
    return scale * math.sqrt(max(float(((taps.T @ taps) * meets).sum()), 0.0))


def standing_wave(convolution: Convolution, peak: Peak) -> Tensor:
    """Flat input at which the convolution comes near its symbol's ``peak``, in float64.

    The wave of the peak under half a sine per dimension, which is the lowest mode of a symbol that
    is quadratic at its top and cut off where zero padding begins; circular padding cuts nothing.
    """
    c = convolution
    channels = c.in_channels // c.groups
    wave = peak.vector.reshape(channels, *peak.stride)
    envelope = torch.ones((), dtype=torch.float64)
    turn = torch.ones((), dtype=torch.float64)
    for i, (n, s) in enumerate(zip(c.size, peak.stride, strict=True)):
        padded = torch.arange(n, dtype=torch.float64) + c.padding[i][0]
        block = padded.div(s, rounding_mode="floor")
        wave = wave.index_select(1 + i, (padded - block * s).long())
        turn = turn[..., None] * torch.polar(torch.ones_like(block), -peak.frequency[i] * block)
        half = torch.sin(math.pi * torch.arange(1, n + 1, dtype=torch.float64) / (n + 1))
        envelope = envelope[..., None] * (half if c.mode == "zeros" else torch.ones_like(half))
    image = torch.zeros(c.in_channels, *c.size, dtype=torch.float64)
    image[peak.group * channels : (peak.group + 1) * channels] = (wave * turn).real * envelope
    return image.flatten()


def _distinct(sources: Tensor) -> bool:
    """Whether no output position reads an input entry by two taps."""
    ordered = sources.sort(dim=1).values
    return not bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any())


def _pad(image: Tensor, convolution: Convolution) -> Tensor:
    amounts = [amount for pair in reversed(convolution.padding) for amount in pair]
    mode = "constant" if convolution.mode == "zeros" else convolution.mode
    return F.pad(image, amounts, mode=mode)


def _unpad(image: Tensor, convolution: Convolution, here: tuple[int, ...]) -> Tensor:
    """The adjoint of padding, by differentiating it: padding is linear, the point is irrelevant."""
    with torch.enable_grad():
        point = torch.zeros(here, dtype=image.dtype, device=image.device, requires_grad=True)
        (gradient,) = torch.autograd.grad(_pad(point, convolution), point, image)
    return gradient
