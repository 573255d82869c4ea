"""Upper bounds on convolutions from their Fourier symbol.

A convolution with stride ``s`` is one with stride 1 on the input's ``s^d`` phases (its polyphase
form), and that is a corner of a circular convolution on any grid the padded input fits in. The
circular one is block diagonal in the Fourier basis (Sedghi, Gupta and Long 2019), so its norm is
the largest singular value of the symbol over the grid. The input's own size is *not* enough of a
grid under zero padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_WORK = 5e8  # complex multiplications, about half a second
_MAX_ENTRIES = 2**24  # complex entries of the symbol held at a time
_FINENESS = (32, 16, 8)  # coarse grid points per block of the kernel, the finest affordable
_SINGLE_WORK = 1e6  # ... from which complex64 is worth its rounding
_ROOF_SLACK = 1e-3  # rounding of a bound that only chooses where to look
_MAX_POINTS = 64  # grid points per dimension beyond which the symbol's sup is bounded instead


@dataclass(frozen=True)
class Grid:
    """One spatial dimension: ``taps`` of the kernel, ``points`` the padded input needs.

    ``exact`` means that the grid itself bounds the operator; else the symbol is bounded between the
    points as well.
    """

    taps: int
    points: int
    stride: int = 1
    dilation: int = 1
    exact: bool = True

    @property
    def blocks(self) -> int:
        """Taps of the polyphase form."""
        extent = self.dilation * (self.taps - 1) + 1
        return -(-extent // self.stride)

    @property
    def between(self) -> float:
        """Largest ratio of the symbol's sup to its largest value on the grid.

        ``1 / cos(pi (b - 1) / (2 N))`` for ``b`` blocks on ``N`` points: centred, each entry
        ``u* K(w) v`` is of exponential type ``(b - 1) / 2``, and a real function of type ``t`` that
        peaks at ``w0`` is at least ``peak * cos(t (w - w0))`` nearby (Duffin and Schaeffer 1938).
        """
        if self.exact:
            return 1.0
        return 1.0 / math.cos(math.pi * (self.blocks - 1) / (2 * self.points))

    def sampled(self, fineness: int) -> Grid:
        """The grid that is computed: this one in blocks, or a coarse one that bounds its sup.

        Dilation only stretches the symbol, so the sup is that of the dense kernel; under a stride
        it mixes phases and stays. ``fineness`` is the coarse grid's points per block.
        """
        points = max(-(-self.points // self.stride), self.blocks)
        dilation = 1 if self.stride == 1 else self.dilation
        coarse = Grid(self.taps, 1, self.stride, dilation, exact=False)
        enough = max(fineness * (coarse.blocks - 1), 1)
        if coarse.blocks > 1 and points <= max(_MAX_POINTS, enough):
            return Grid(self.taps, points, self.stride, self.dilation)
        return Grid(self.taps, enough, self.stride, dilation, exact=False)


@dataclass(frozen=True)
class Peak:
    """Where the symbol is largest: ``bound``, a certain bound on the operator, and its wave.

    ``vector`` is the right singular vector there, complex, of ``group``'s input channels times the
    phases of each stride; it travels as ``exp(-i frequency . block)``. ``slack`` is the share of
    the bound that covers what lies between the points of a coarse grid.
    """

    bound: float
    slack: float
    group: int
    stride: tuple[int, ...]  # entries per block, by dimension
    frequency: tuple[float, ...]  # radians per block
    vector: Tensor


def symbol_peak(kernel: Tensor, grids: tuple[Grid, ...] | None, groups: int = 1) -> Peak | None:
    """The largest singular value of the symbol of ``kernel`` (out, in / groups, *taps).

    ``grids`` holds one :class:`Grid` per spatial dimension. ``None`` where there is no grid, or
    where the bound would cost more than about half a second. Complex128, or complex64 where the
    work is worth it, with its rounding in the bound.
    """
    for fineness in _FINENESS if grids is not None else ():
        sampled = tuple(grid.sampled(fineness) for grid in grids or ())
        if _affordable(kernel, sampled, groups):
            return _peak(kernel, sampled, groups)
    return None


def _work(kernel: Tensor, grids: tuple[Grid, ...], groups: int) -> tuple[float, int]:
    """Complex multiplications, and complex entries of the symbol."""
    rows, columns = kernel.shape[0] // groups, kernel.shape[1] * math.prod(g.stride for g in grids)
    frequencies = math.prod(g.points for g in grids) // 2 + 1
    small, large = sorted((rows, columns))
    work = groups * frequencies * small**2 * (large + (8 * small if small > 1 else 0))
    return work, groups * frequencies * rows * columns


def _affordable(kernel: Tensor, grids: tuple[Grid, ...], groups: int) -> bool:
    work, entries = _work(kernel, grids, groups)
    return work <= _MAX_WORK and entries <= _MAX_ENTRIES


def _peak(kernel: Tensor, grids: tuple[Grid, ...], groups: int) -> Peak:
    single = _work(kernel, grids, groups)[0] > _SINGLE_WORK and kernel.dtype != torch.float64
    phases = polyphase(kernel.detach().cpu().to(torch.float32 if single else torch.float64), grids)
    phases = phases.reshape(groups, -1, *phases.shape[1:])
    rows, columns = phases.shape[1:3]
    points = tuple(grid.points for grid in grids)
    symbol = torch.fft.rfftn(phases, s=points, dim=tuple(range(3, phases.ndim)))
    half = tuple(symbol.shape[3:])
    matrices = symbol.flatten(3).permute(0, 3, 1, 2).flatten(0, 1)  # group and frequency first
    place, top = _largest_of(matrices)
    group, index = divmod(place, math.prod(half))
    where = [int(i) for i in torch.unravel_index(torch.tensor(index), half)]
    rounding = float(torch.finfo(phases.dtype).eps) * 32 * (rows + columns)
    between = math.prod(grid.between for grid in grids)
    return Peak(
        math.sqrt(max(top, 0.0)) * (1 + rounding) * between,
        between - 1,
        group,
        tuple(grid.stride for grid in grids),
        tuple(2 * math.pi * i / n for i, n in zip(where, points, strict=True)),
        _right_vector(matrices[place]),
    )


def _largest_of(matrices: Tensor) -> tuple[int, float]:
    """Which of ``matrices`` (batch, rows, columns) has the largest norm, and that norm squared.

    ``trace(G^8)^(1/8)`` of a Gram matrix bounds its top eigenvalue from above, and from below less
    a factor ``n^(1/8)``: eigenvalues are computed only where it leaves a chance.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mH
    gram = wide @ wide.mH
    n = gram.shape[-1]
    if n == 1:
        index = int(gram.real.flatten().argmax())
        return index, float(gram.real.flatten()[index])
    scale = float(gram.diagonal(dim1=1, dim2=2).real.sum(1).max())
    if scale == 0.0:
        return 0, 0.0
    fourth = gram / scale
    for _ in range(2):
        fourth = fourth @ fourth
    roof = scale * fourth.abs().square().sum((1, 2)).double().pow(1 / 8)
    first = int(roof.argmax())
    floor = float(torch.linalg.eigvalsh(gram[first])[-1])
    left = torch.nonzero(roof * (1 + _ROOF_SLACK) >= floor).flatten()
    tops = torch.linalg.eigvalsh(gram[left])[:, -1]
    best = int(tops.argmax())
    return int(left[best]), float(tops[best])


def _right_vector(matrix: Tensor) -> Tensor:
    """The top right singular vector, complex128, its largest entry real.

    By an eigenvector of the smaller Gram matrix. A real symbol's vector is then real, not some
    phase times a real one, whose real part may vanish.
    """
    wide = matrix.to(torch.complex128)
    if wide.shape[0] > wide.shape[1]:
        vector = torch.linalg.eigh(wide.mH @ wide).eigenvectors[:, -1]
    else:
        vector = wide.mH @ torch.linalg.eigh(wide @ wide.mH).eigenvectors[:, -1]
    largest = vector[vector.abs().argmax()]
    return vector * (largest.conj() / largest.abs().clamp(min=1e-300))


def polyphase(kernel: Tensor, grids: tuple[Grid, ...]) -> Tensor:
    """``kernel`` dilated, each stride's phases moved into the channels: (out, in', *blocks)."""
    for axis, grid in enumerate(grids, start=2):
        shape = list(kernel.shape)
        shape[axis] = grid.blocks * grid.stride
        spread = kernel.new_zeros(shape)
        extent = grid.dilation * (grid.taps - 1) + 1
        spread.narrow(axis, 0, extent)[_every(axis, grid.dilation)] = kernel
        folded = spread.unflatten(axis, (grid.blocks, grid.stride)).movedim(axis + 1, 2)
        kernel = folded.flatten(1, 2)
    return kernel


def _every(axis: int, step: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(None, None, step),)
