"""Fourier transforms, windows, and mel filters. Complex numbers are pairs in the last dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import DTYPES


def _complex(x: Tensor) -> Tensor:
    """Numbers from ``[..., 1]`` or ``[..., 2]``; halves as float32, which torch transforms."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.shape[-1] == 1:
        return wide.squeeze(-1)
    if x.shape[-1] != 2:
        raise ValueError(f"expected a last dimension of 1 or 2, found {x.shape[-1]}")
    return torch.complex(*wide.unbind(-1))


def _pairs(z: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.view_as_real(z.resolve_conj()).to(dtype)


@operator("DFT", since=17)
def dft_along_attribute(
    x: Tensor,
    dft_length: Tensor | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """``y_k = Σ_n exp(-2πi kn / N) x_n`` along ``axis``."""
    return _dft(x, dft_length, axis, inverse=inverse, onesided=onesided)


@operator("DFT", since=20)
def dft(
    x: Tensor,
    dft_length: Tensor | None = None,
    axis: Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """``y_k = Σ_n exp(-2πi kn / N) x_n`` along ``axis``, the last but the pairs'."""
    along = -2 if axis is None else int(axis)
    return _dft(x, dft_length, along, inverse=inverse, onesided=onesided)


def _dft(x: Tensor, length: Tensor | None, axis: int, *, inverse: int, onesided: int) -> Tensor:
    dim = axis % x.dim()
    if not -x.dim() <= axis < x.dim() or dim == x.dim() - 1:
        raise ValueError(f"expected an axis of a signal in {x.dim()} dimensions, found {axis}")
    n = None if length is None else int(length)
    z = _complex(x)
    if inverse and onesided:
        return torch.fft.irfft(z, n, dim).unsqueeze(-1).to(x.dtype)
    if onesided and z.is_complex():
        raise ValueError("expected a real signal for a one-sided transform, found a complex one")
    transform: Callable[..., Tensor] = torch.fft.rfft if onesided else torch.fft.fft
    return _pairs((torch.fft.ifft if inverse else transform)(z, n, dim), x.dtype)


@operator("STFT", since=17)
def stft(
    signal: Tensor,
    frame_step: Tensor,
    window: Tensor | None = None,
    frame_length: Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Transforms of the windowed frames of ``signal [N, L, 1 or 2]``: ``[N, frames, bins, 2]``."""
    z = _complex(signal)
    length = signal.shape[1] if window is None else window.shape[0]
    if frame_length is not None:
        length = int(frame_length)
    if window is not None and window.shape != (length,):
        raise ValueError(f"expected a window of length {length}, found {list(window.shape)}")
    weights = z.real.new_ones(length) if window is None else window.to(z.real.dtype)
    y = torch.stft(
        z,
        length,
        int(frame_step),
        window=weights,
        center=False,
        onesided=bool(onesided),
        return_complex=True,
    )
    return _pairs(y.transpose(1, 2), signal.dtype)


def _window(
    make: Callable[..., Tensor], size: Tensor, periodic: int, kind: int, **of: Any
) -> Tensor:
    made = make(int(size), periodic=bool(periodic), dtype=torch.float64, device=size.device, **of)
    return made.to(DTYPES[kind])


@operator("HannWindow", since=17)
def hann_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """``sin²(πn / N)``; ``N`` is the size, or one less where it is symmetric."""
    return _window(torch.hann_window, size, periodic, output_datatype)


@operator("HammingWindow", since=17)
def hamming_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """``25/46 - 21/46 cos(2πn / N)``."""
    shape = {"alpha": 25 / 46, "beta": 21 / 46}
    return _window(torch.hamming_window, size, periodic, output_datatype, **shape)


@operator("BlackmanWindow", since=17)
def blackman_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """``0.42 - 0.5 cos(2πn / N) + 0.08 cos(4πn / N)``."""
    return _window(torch.blackman_window, size, periodic, output_datatype)


@operator("MelWeightMatrix", since=17)
def mel_weight_matrix(
    num_mel_bins: Tensor,
    dft_length: Tensor,
    sample_rate: Tensor,
    lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor,
    *,
    output_datatype: int = 1,
) -> Tensor:
    """Triangles of peak 1, evenly spaced in mel: ``[dft_length // 2 + 1, num_mel_bins]``."""
    bins, length = int(num_mel_bins), int(dft_length)
    low, high = (
        2595 * math.log10(1 + float(edge) / 700) for edge in (lower_edge_hertz, upper_edge_hertz)
    )
    device = num_mel_bins.device
    mel = low + torch.arange(bins + 2, dtype=torch.float64, device=device) * (high - low) / (
        bins + 2
    )
    hertz = 700 * (10 ** (mel / 2595) - 1)
    edges = torch.floor((length + 1) * hertz / int(sample_rate))
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    row = torch.arange(length // 2 + 1, dtype=torch.float64, device=device)[:, None]
    rising = (row - left) / (peak - left).clamp(min=1)
    falling = (right - row) / (right - peak).clamp(min=1)
    sides = torch.where(row < peak, rising, falling).clamp(min=0)
    return torch.where(row == peak, 1, sides).to(DTYPES[output_datatype])
