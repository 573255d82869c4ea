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
_FINENESS = (16, 8)  # coarse grid points per block of the kernel, the finest affordable
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


def symbol_norm(kernel: Tensor, grids: tuple[Grid, ...] | None, groups: int = 1) -> float | None:
    """Certain upper bound on the convolution of ``kernel`` (out, in / groups, *taps).

    ``grids`` holds one :class:`Grid` per spatial dimension. ``None`` where there is no grid, or
    where the bound would cost more than about half a second. Complex128 throughout.
    """
    for fineness in _FINENESS if grids is not None else ():
        sampled = tuple(grid.sampled(fineness) for grid in grids or ())
        if _affordable(kernel, sampled, groups):
            return _largest(kernel, sampled, groups) * math.prod(g.between for g in sampled)
    return None


def _affordable(kernel: Tensor, grids: tuple[Grid, ...], groups: int) -> bool:
    rows, columns = kernel.shape[0] // groups, kernel.shape[1] * math.prod(g.stride for g in grids)
    frequencies = math.prod(g.points for g in grids) // 2 + 1
    small, large = sorted((rows, columns))
    work = groups * frequencies * small**2 * (large + (8 * small if small > 1 else 0))
    return work <= _MAX_WORK and groups * frequencies * rows * columns <= _MAX_ENTRIES


def _largest(kernel: Tensor, grids: tuple[Grid, ...], groups: int) -> float:
    """Largest singular value of the symbol over the grid, rounded up."""
    phases = polyphase(kernel.detach().cpu().double(), grids)
    phases = phases.reshape(groups, -1, *phases.shape[1:])
    rows, columns = phases.shape[1:3]
    points = tuple(grid.points for grid in grids)
    symbol = torch.fft.rfftn(phases, s=points, dim=tuple(range(3, phases.ndim)))
    matrices = symbol.flatten(3).permute(0, 3, 1, 2)
    if rows > columns:
        matrices = matrices.mH
    gram = matrices @ matrices.mH
    one = gram.shape[-1] == 1
    top = gram.real.max() if one else torch.linalg.eigvalsh(gram)[..., -1].max()
    return math.sqrt(max(float(top), 0.0)) * (1 + 1e-14 * (rows + columns))


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
