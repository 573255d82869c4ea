"""Slow truths in float64 that share no code with the package: loops, and numpy's own SVD."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def top_singular_value(matrix: np.ndarray) -> float:
    """Largest singular value by a full SVD in float64."""
    return float(np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)[0])


def source_index(position: int, size: int, mode: str) -> int | None:
    """Input index behind padded position ``position`` (0 is the first entry), None for a zero."""
    if 0 <= position < size:
        return position
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return min(max(position, 0), size - 1)
    if mode == "reflect":
        return -position if position < 0 else 2 * (size - 1) - position
    return None


def convolution_matrix(
    kernel: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    groups: int = 1,
    mode: str = "zeros",
) -> np.ndarray:
    """The matrix of torch's convolution, one output position and tap at a time.

    ``kernel`` is (out, in / groups, *taps); padding is symmetric. Rows are flat outputs, columns
    flat inputs, channels first.
    """
    out_channels, in_per_group, *taps = kernel.shape
    in_channels = in_per_group * groups
    positions = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, taps, stride, strict=True)
    ]
    matrix = np.zeros((out_channels, *positions, in_channels, *size))
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, taps)):
            read = [
                source_index(o * s + t * d - p, n, mode)
                for o, s, t, d, p, n in zip(
                    place, stride, tap, dilation, padding, size, strict=True
                )
            ]
            if None in read:
                continue
            for group in range(groups):
                out = slice(group * out_channels // groups, (group + 1) * out_channels // groups)
                inside = slice(group * in_per_group, (group + 1) * in_per_group)
                matrix[(out, *place, inside, *read)] += kernel[(out, slice(None), *tap)]
    return matrix.reshape(out_channels * int(np.prod(positions)), -1)


def transposed_convolution_matrix(
    kernel: np.ndarray,
    size: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray:
    """The matrix of torch's transposed convolution; ``kernel`` is (in, out / groups, *taps)."""
    in_channels, out_per_group, *taps = kernel.shape
    out_size = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            size, stride, padding, dilation, taps, output_padding, strict=True
        )
    ]
    matrix = np.zeros((out_per_group * groups, *out_size, in_channels, *size))
    for place in itertools.product(*map(range, size)):
        for tap in itertools.product(*map(range, taps)):
            write = [
                i * s + t * d - p
                for i, s, t, d, p in zip(place, stride, tap, dilation, padding, strict=True)
            ]
            if any(not 0 <= w < n for w, n in zip(write, out_size, strict=True)):
                continue
            for group in range(groups):
                inside = slice(group * in_channels // groups, (group + 1) * in_channels // groups)
                out = slice(group * out_per_group, (group + 1) * out_per_group)
                matrix[(out, *write, inside, *place)] += kernel[(inside, slice(None), *tap)].T
    return matrix.reshape(out_per_group * groups * int(np.prod(out_size)), -1)
