"""Operator norms of convolutions, on the input they see.

A transposed convolution is the adjoint of a convolution from its output's size, so it has the same
norm and is measured as that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradaudit.linalg.convolution_map import (
    Convolution,
    convolution_map,
    normalised,
    operator_frobenius,
    standing_wave,
)
from gradaudit.linalg.dense import dense_norm, frobenius_norm
from gradaudit.linalg.golub_kahan import NormBounds, norm_near, spectral_norm
from gradaudit.linalg.symbol import Grid, symbol_peak

_WAVE_STEPS, _WAVE_CLOSE = 8, 0.01  # products from a good start; the gap to its bound that will do


def convolution_norm(
    convolution: Convolution, steps: int, generator: torch.Generator, *, delta: float = 1e-3
) -> NormBounds:
    """Largest singular value of ``convolution`` on its input size.

    From below by Golub-Kahan-Lanczos on the convolution and its adjoint, with the real padding,
    stride, dilation and groups; from above by the least of the bounds of
    :func:`gradaudit.linalg.golub_kahan.spectral_norm` and, for zero and circular padding where the
    kernel is small enough, the peak of the symbol (:func:`gradaudit.linalg.symbol.symbol_peak`).
    Where the two bounds meet within 1% after a few products from the peak's own wave, that is all
    it takes. A kernel of one tap is a matrix per group. Maps of a few thousand entries take up to
    twice the ``steps``, which costs milliseconds. Raises ``ValueError`` if the kernel does not fit.
    """
    if min(convolution.positions) < 1:
        raise ValueError(f"a kernel spanning {convolution.extent} on {convolution.padded} entries")
    if not bool(convolution.kernel.any()):
        return NormBounds.exact(0.0)
    if math.prod(convolution.taps) == 1 and convolution.mode == "zeros":
        return _pointwise(convolution, steps, generator, delta)
    convolution, scale = normalised(convolution)
    linear_map = convolution_map(convolution)
    peak = symbol_peak(convolution.kernel, _grids(convolution), convolution.groups)
    ceiling = math.inf if peak is None else peak.bound
    small = convolution.small
    if peak is not None and peak.slack <= _WAVE_CLOSE / 2 and not small:
        start = standing_wave(convolution, peak)
        near = norm_near(linear_map, start, ceiling, _WAVE_STEPS, _WAVE_CLOSE)
        if near is not None:
            return near.scaled(scale)
    return spectral_norm(
        linear_map,
        2 * steps if small else steps,
        generator,
        frobenius=operator_frobenius(convolution),
        ceiling=ceiling,
        delta=delta,
        tolerance=1e-7 if small else 3e-3,
        width=1e-3 if small else 0.04,
    ).scaled(scale)


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
