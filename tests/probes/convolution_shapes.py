"""Random convolution modules beside their brute-force float64 matrices, for hypothesis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from gradaudit.probes.weights import measure_weights
from gradaudit.settings import Settings
from tests.reference import convolution_matrix, top_singular_value, transposed_convolution_matrix

Case = tuple[nn.Module, tuple[int, ...], np.ndarray, bool]
_PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MOST = {1: 12, 2: 6, 3: 3}  # spare entries of the input per dimension


def _per_dimension(draw: st.DrawFn, dimensions: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(low, high), min_size=dimensions, max_size=dimensions)))


@st.composite
def modules(draw: st.DrawFn) -> Case:
    """A module, the size of its input, its matrix, and whether to measure it as a large map."""
    d = draw(st.sampled_from([1, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    taps = _per_dimension(draw, d, 1, 4 if d < 3 else 3)
    stride, dilation = _per_dimension(draw, d, 1, 3), _per_dimension(draw, d, 1, 3 if d < 3 else 2)
    padding, spare = _per_dimension(draw, d, 0, 3 if d < 3 else 1), _per_dimension(draw, d, 0, 3)
    spare = tuple(min(s * 2, _MOST[d]) for s in spare)
    torch.manual_seed(draw(st.integers(0, 2**16)))
    large = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        frame = channels, taps, stride, padding, dilation
        return *_transposed(frame, groups, spare), large
    extents = [t * (k - 1) + 1 for k, t in zip(taps, dilation, strict=True)]
    fits = zip(extents, padding, spare, strict=True)
    size = tuple(max(e - 2 * p, 1) + extra for e, p, extra in fits)
    mode = draw(st.sampled_from(_modes(padding, size)))
    module = _PLAIN[d](*channels, taps, stride, padding, dilation, groups, False, mode)
    matrix = convolution_matrix(
        _drawn(module), size, stride, padding, dilation, groups=groups, mode=mode
    )
    return module, size, matrix, large


def _modes(padding: tuple[int, ...], size: tuple[int, ...]) -> list[str]:
    modes = ["zeros", "zeros", "replicate"]
    if all(p <= n for p, n in zip(padding, size, strict=True)):
        modes.append("circular")
    if all(p < n for p, n in zip(padding, size, strict=True)):
        modes.append("reflect")
    return modes


def _transposed(
    frame: tuple[tuple[int, ...], ...], groups: int, spare: tuple[int, ...]
) -> tuple[nn.Module, tuple[int, ...], np.ndarray]:
    channels, taps, stride, padding, dilation = frame
    more = tuple(max(s, t) - 1 for s, t in zip(stride, dilation, strict=True))
    size = tuple(
        1 + extra + max(math.ceil((2 * p - t * (k - 1) - o) / s), 0)
        for extra, p, t, k, o, s in zip(spare, padding, dilation, taps, more, stride, strict=True)
    )
    module = _TRANSPOSED[len(taps)](*channels, taps, stride, padding, more, groups, False, dilation)
    matrix = transposed_convolution_matrix(
        _drawn(module),
        size,
        stride=stride,
        padding=padding,
        output_padding=more,
        dilation=dilation,
        groups=groups,
    )
    return module, size, matrix


def _drawn(module: nn.Module) -> np.ndarray:
    """The kernel, drawn anew from N(0, 1) or, half the time, from a smooth law with a mean."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    nn.init.normal_(weight)
    if float(torch.rand(())) < 0.5:
        nn.init.uniform_(weight, 0.0, 1.0)
    return weight.detach().double().numpy()


def errors(case: Case) -> tuple[float, float, float]:
    """Relative: the value's error, by how much the lower end is above, the upper end below."""
    module, size, matrix, large = case
    truth = top_singular_value(matrix)
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr("gradaudit.linalg.convolution_map._FEW_ENTRIES", 0)
        (row,), _ = measure_weights(module, {"": size}, {}, Settings())
    estimate = row.spectral_norm
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    if truth == 0.0:
        return estimate.value, estimate.low, -estimate.high
    low, high = estimate.low / truth - 1, 1 - estimate.high / truth
    return abs(estimate.value / truth - 1), low, high
