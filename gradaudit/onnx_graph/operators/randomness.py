"""Random numbers, from torch's global generator or, with a seed, from one of the call's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import torch_dtype


def _seeded(seed: float | None, device: torch.device) -> torch.Generator | None:
    return None if seed is None else torch.Generator(device).manual_seed(int(seed))


def _like(x: Tensor, dtype: int | None) -> torch.dtype:
    return x.dtype if dtype is None else torch_dtype(dtype)


def _normal(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, seed: float | None
) -> Tensor:
    generator = _seeded(seed, device)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=device)


def _uniform(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, seed: float | None
) -> Tensor:
    generator = _seeded(seed, device)
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=device)


@operator("RandomNormal")
def random_normal(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Draws from N(mean, scale²)."""
    drawn = _normal(shape, torch_dtype(dtype), torch.get_default_device(), seed)
    return mean + scale * drawn


@operator("RandomNormalLike")
def random_normal_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Draws from N(mean, scale²) in the shape of ``x``."""
    return mean + scale * _normal(x.shape, _like(x, dtype), x.device, seed)


@operator("RandomUniform")
def random_uniform(
    *,
    shape: Sequence[int],
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Draws from [low, high)."""
    drawn = _uniform(shape, torch_dtype(dtype), torch.get_default_device(), seed)
    return low + (high - low) * drawn


@operator("RandomUniformLike")
def random_uniform_like(
    x: Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Draws from [low, high) in the shape of ``x``."""
    return low + (high - low) * _uniform(x.shape, _like(x, dtype), x.device, seed)


@operator("Bernoulli", since=15)
def bernoulli(x: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    """1 with probability ``x``, else 0."""
    return torch.bernoulli(x, generator=_seeded(seed, x.device)).to(_like(x, dtype))


@operator("Multinomial", since=7)
def multinomial(
    x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None
) -> Tensor:
    """Classes drawn with the probabilities ``softmax(x)``, ``sample_size`` for each row."""
    generator = _seeded(seed, x.device)
    drawn = torch.multinomial(F.softmax(x.float(), -1), sample_size, True, generator=generator)
    return drawn.to(torch_dtype(dtype))


@operator("Dropout", since=7)
def dropout_left_out(
    x: Tensor, *, ratio: float = 0.5, opset: int = 7, wanted: tuple[bool, ...] = (True,)
) -> Tensor | tuple[Tensor, Tensor]:
    """The input, as in inference; the mask of ones is boolean from opset 10 on."""
    return _all_kept(x, torch.bool if opset >= 10 else x.dtype, wanted)


@operator("Dropout", since=12)
def dropout(
    x: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,
    *,
    seed: int | None = None,
    wanted: tuple[bool, ...] = (True,),
) -> Tensor | tuple[Tensor, Tensor]:
    """``x mask / (1 - ratio)`` if training, else ``x``; each entry is dropped with that ratio."""
    share = 0.5 if ratio is None else float(ratio)
    if training_mode is None or not training_mode or share == 0:
        return _all_kept(x, torch.bool, wanted)
    if not 0 <= share < 1:
        raise ValueError(f"ratio should be in [0, 1), not {share:g}")
    if seed is None and not any(wanted[1:]):
        return F.dropout(x, share)
    mask = _uniform(x.shape, torch.float32, x.device, seed) >= share
    return x * mask / (1 - share), mask


def _all_kept(
    x: Tensor, mask: torch.dtype, wanted: tuple[bool, ...]
) -> Tensor | tuple[Tensor, Tensor]:
    return (x, torch.ones_like(x, dtype=mask)) if any(wanted[1:]) else x
