"""Operator norms of convolutions, on the input they see.

A transposed convolution is the adjoint of a convolution from its output's size, so it has the same
norm and is measured as that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.linalg.dense import dense_norm, frobenius_norm
from gradaudit.linalg.golub_kahan import LinearMap, NormBounds, spectral_norm
from gradaudit.linalg.symbol import Grid, symbol_norm

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_ADJOINT = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_FEW_ENTRIES = 2**15  # input plus output entries of a map that counts as small ...
_LITTLE_WORK = 2**17  # ... if one product takes no more multiplications
_COSTLY = 2**22  # multiplications in one product from which an earlier stop is worth having


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


def convolution_norm(
    convolution: Convolution, steps: int, generator: torch.Generator, *, delta: float = 1e-3
) -> NormBounds:
    """Largest singular value of ``convolution`` on its input size.

    From below by Golub-Kahan-Lanczos on the convolution and its adjoint, with the real padding,
    stride, dilation and groups; from above by the least of the bounds of
    :func:`gradaudit.linalg.golub_kahan.spectral_norm` and, for zero and circular padding where the
    kernel is small enough, the norm of the symbol (:func:`gradaudit.linalg.symbol.symbol_norm`).
    A kernel of one tap is a matrix per group. Maps of a few thousand entries take up to twice the
    ``steps``, which costs milliseconds. Raises ``ValueError`` if the kernel does not fit.
    """
    if min(convolution.positions) < 1:
        raise ValueError(f"a kernel spanning {convolution.extent} on {convolution.padded} entries")
    if not bool(convolution.kernel.any()):
        return NormBounds.exact(0.0)
    if math.prod(convolution.taps) == 1 and convolution.mode == "zeros":
        return _pointwise(convolution, steps, generator, delta)
    linear_map, scale = convolution_map(convolution)
    symbol = symbol_norm(convolution.kernel, _grids(convolution), convolution.groups)
    small, costly = convolution.small, convolution.work > _COSTLY
    return spectral_norm(
        linear_map,
        2 * steps if small else steps,
        generator,
        frobenius=operator_frobenius(convolution) / scale,
        ceiling=math.inf if symbol is None else symbol / scale,
        delta=delta,
        tolerance=1e-7 if small else 3e-3 if costly else 1e-4,
        width=1e-3 if small else 0.02,
    ).scaled(scale)


def convolution_map(convolution: Convolution) -> tuple[LinearMap, float]:
    """``convolution`` with its kernel scaled to a largest entry of one, and that scale.

    In float64 where the map is small or the kernel is float64, else in float32.
    """
    c = convolution
    here, there = (1, c.in_channels, *c.size), (1, c.kernel.shape[0], *c.positions)
    double = c.small or c.kernel.dtype == torch.float64
    scale = float(c.kernel.detach().abs().max())
    kernel = (c.kernel.detach().double() / scale).to(torch.float64 if double else torch.float32)
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
    return LinearMap(forward, adjoint, rows, columns, kernel.dtype, kernel.device), scale


def operator_frobenius(convolution: Convolution) -> float:
    """Frobenius norm of ``convolution`` as a matrix, exactly, for any padding.

    ``sum_(t, t') <K_t, K_t'> prod_i M_i[t_i, t'_i]``, where ``M_i`` counts the output positions at
    which taps ``t`` and ``t'`` read the same input entry. Without reflected or repeated entries no
    two taps ever do, and only the diagonal is left.
    """
    kernel = convolution.kernel.detach().double().flatten(0, 1).cpu()
    sources = [convolution.sources(i) for i in range(convolution.dimensions)]
    counts = [(s >= 0).sum(0).double() for s in sources]
    if all(_distinct(s) for s in sources):
        total = kernel.square().sum(0)
        for count in reversed(counts):
            total = total @ count
        return math.sqrt(float(total))
    taps = kernel.flatten(1)
    meets = torch.ones(1, 1, dtype=torch.float64)
    for source in sources:
        same = (source[:, :, None] == source[:, None, :]) & (source >= 0)[:, :, None]
        meets = torch.kron(meets, same.sum(0).double())
    return math.sqrt(max(float(((taps.T @ taps) * meets).sum()), 0.0))


def reshaped_norm(
    kernel: Tensor, steps: int, generator: torch.Generator, *, delta: float = 1e-3
) -> NormBounds:
    """Norm of ``kernel.flatten(1)``: what ``torch.nn.utils.spectral_norm`` divides by.

    Also a lower bound on the operator's norm wherever one output position sees a whole kernel of
    one group.
    """
    return dense_norm(kernel.flatten(1), steps, generator, delta=delta)


def every_geometry_norm(
    kernel: Tensor, steps: int, generator: torch.Generator, *, delta: float = 1e-3
) -> NormBounds:
    """Bounds for ``kernel`` (out, in, *taps) whose stride, padding and input size are unknown.

    ``value`` is the norm on a circular grid at stride 1; ``high`` holds for every stride, dilation,
    zero padding and input size, ``low`` wherever one output position sees a whole kernel, so on any
    input twice the kernel's size. Between grid points the symbol is bounded as in
    :class:`gradaudit.linalg.symbol.Grid`.
    """
    taps = tuple(kernel.shape[2:])
    if math.prod(taps) == 1:
        return dense_norm(kernel.flatten(1), steps, generator, delta=delta)
    grid = tuple(_assumed_points(k, math.prod(kernel.shape)) for k in taps)
    ones, none = (1,) * len(taps), tuple((0, k - 1) for k in taps)
    circular = Convolution(kernel, grid, ones, none, ones, 1, "circular")
    bounds = convolution_norm(circular, steps, generator, delta=delta)
    low = reshaped_norm(kernel, steps, generator, delta=delta).low
    gap = math.prod(Grid(k, n, exact=False).between for k, n in zip(taps, grid, strict=True))
    high = bounds.high * gap
    value = min(max(bounds.value, low), high)
    return NormBounds(value, min(low, value), high, bounds.steps, bounds.certain)


def _assumed_points(taps: int, entries: int) -> int:
    """Grid points per dimension: enough for a tight bound, fewer for a costly kernel."""
    if taps == 1:
        return 1
    return max(32 if entries <= 2**16 else 16 if entries <= 2**19 else 8, 4 * (taps - 1))


def _pointwise(
    convolution: Convolution, steps: int, generator: torch.Generator, delta: float
) -> NormBounds:
    """A kernel of one tap: a matrix per group, applied wherever the stride lands on the input."""
    if not all(bool((convolution.sources(i) >= 0).any()) for i in range(convolution.dimensions)):
        return NormBounds.exact(0.0)
    blocks = convolution.kernel.flatten(1).chunk(convolution.groups)
    if blocks[0].shape[0] == 1 or blocks[0].shape[1] == 1:
        norms = [NormBounds.exact(frobenius_norm(block)) for block in blocks]
    else:
        share = delta / len(blocks)
        norms = [dense_norm(block, steps, generator, delta=share) for block in blocks]
    return NormBounds(
        max(b.value for b in norms),
        max(b.low for b in norms),
        max(b.high for b in norms),
        max(b.steps for b in norms),
        all(b.certain for b in norms),
    )


def _grids(convolution: Convolution) -> tuple[Grid, ...] | None:
    """The frequencies whose largest symbol bounds this operator; ``None`` for reflected entries.

    Zero padding: at most ``extent - 1`` padding entries on either side meet the input, and the
    operator is a corner of the circular one on any larger grid. Circular padding: rows of the
    circular operator, none twice, unless the padding wraps past the input's own size.
    """
    c = convolution
    reach = tuple(
        n + min(p[0], e - 1) + min(p[1], e - 1)
        for n, p, e in zip(c.size, c.padding, c.extent, strict=True)
    )
    if c.mode == "zeros":
        zipped = zip(c.taps, reach, c.stride, c.dilation, strict=True)
        return tuple(Grid(k, n, stride=s, dilation=d) for k, n, s, d in zipped)
    once = all(m - e + 1 <= n for m, e, n in zip(c.padded, c.extent, c.size, strict=True))
    if c.mode == "circular" and once:
        rows = zip(c.taps, c.size, c.dilation, strict=True)
        return tuple(Grid(k, n, dilation=d) for k, n, d in rows)
    return None


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
