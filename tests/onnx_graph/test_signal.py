"""Fourier transforms, windows and mel filters, against numpy and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from gradaudit.onnx_graph.operators.signal import (
    dft,
    dft_along_attribute,
    hamming_window,
    hann_window,
    stft,
)
from tests.onnx_graph.one_node import as_onnxruntime


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()


def numbers(pairs: Tensor) -> Any:
    array = pairs.detach().numpy()
    return array[..., 0] + 1j * array[..., 1] if array.shape[-1] == 2 else array[..., 0]


@pytest.mark.parametrize("length", [None, 4, 9])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -2, -3])
def test_dft_as_numpys(axis: int, parts: int, length: int | None) -> None:
    x = random(3, 6, 2, parts)
    size = None if length is None else torch.tensor(length)
    along = axis if axis >= 0 else axis + 1  # numpy's array has no dimension of pairs
    for inverse, expected in ((0, np.fft.fft), (1, np.fft.ifft)):
        y = dft(x, size, torch.tensor(axis), inverse=inverse)
        np.testing.assert_allclose(numbers(y), expected(numbers(x), length, along), atol=1e-12)
        same = dft_along_attribute(x, size, axis=axis, inverse=inverse)
        assert torch.equal(same, y)


def test_where_dft_goes_along_by_default() -> None:
    x = random(2, 3, 4, 1)
    assert torch.equal(dft_along_attribute(x), dft(x, None, torch.tensor(1)))
    assert torch.equal(dft(x), dft(x, None, torch.tensor(2)))


@pytest.mark.parametrize("size", [5, 6])
def test_one_side_and_back(size: int) -> None:
    x = random(2, size, 1)
    half = dft(x, onesided=1)
    assert half.shape == (2, size // 2 + 1, 2)
    torch.testing.assert_close(dft(half, torch.tensor(size), inverse=1, onesided=1), x)
    assert dft(half, inverse=1, onesided=1).shape == (2, 2 * (size // 2), 1)


def test_halves_keep_their_type() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        y = dft(random(2, 4, 1, dtype=dtype))
        assert y.dtype == dtype
        assert stft(random(2, 8, 1, dtype=dtype), torch.tensor(2)).dtype == dtype


@pytest.mark.parametrize("onesided", [0, 1])
def test_gradients(onesided: int) -> None:
    def transform(x: Tensor) -> Tensor:
        return dft(x, onesided=onesided)

    def frames(x: Tensor, window: Tensor) -> Tensor:
        return stft(x, torch.tensor(2), window, onesided=onesided)

    assert torch.autograd.gradcheck(transform, random(2, 5, 1))
    assert torch.autograd.gradgradcheck(transform, random(2, 5, 1))
    assert torch.autograd.gradcheck(frames, (random(2, 8, 1), random(4)))


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize(("window", "length"), [(True, None), (True, 6), (False, 6)])
def test_stft_as_onnxruntime(window: bool, length: int | None, onesided: int) -> None:
    draw = np.random.default_rng(0)
    inputs = {
        "signal": draw.standard_normal((2, 20, 1)).astype(np.float32),
        "step": np.array(3),
        "window": draw.standard_normal(6).astype(np.float32) if window else None,
        "length": None if length is None else np.array(length),
    }
    as_onnxruntime("STFT", inputs, onesided=onesided)


@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("kind", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows_as_onnxruntime(kind: str, periodic: int) -> None:
    inputs = {"size": np.array(9)}
    for element in (TensorProto.FLOAT, TensorProto.DOUBLE):
        as_onnxruntime(kind, inputs, periodic=periodic, output_datatype=element)


def test_a_window_of_integers_is_cut_off() -> None:
    y = hann_window(torch.tensor(4), output_datatype=TensorProto.INT32)
    assert y.tolist() == [0, 0, 1, 0]
    assert y.dtype == torch.int32
    assert hamming_window(torch.tensor(1), periodic=0).tolist() == [1.0]


@pytest.mark.parametrize(
    ("bins", "length", "rate", "low", "high"), [(8, 16, 8192, 0, 4096), (5, 64, 16000, 80, 7600)]
)
def test_mel_filters_as_onnxruntime(
    bins: int, length: int, rate: int, low: float, high: float
) -> None:
    edges = {"low": np.array(low, np.float32), "high": np.array(high, np.float32)}
    counts = {"bins": np.array(bins), "length": np.array(length), "rate": np.array(rate)}
    as_onnxruntime("MelWeightMatrix", {**counts, **edges})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dft(random(2, 3, 1), None, torch.tensor(-1)), "expected an axis .* found -1"),
        (lambda: dft(random(2, 3, 1), None, torch.tensor(5)), "expected an axis .* found 5"),
        (lambda: dft(random(2, 3, 3)), "last dimension of 1 or 2, found 3"),
        (lambda: dft(random(2, 3, 2), onesided=1), "expected a real signal"),
        (
            lambda: stft(random(1, 9, 1), torch.tensor(2), random(4), torch.tensor(5)),
            r"expected a window of length 5, found \[4\]",
        ),
    ],
)
def test_what_cannot_be_is_said(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
