"""Normalizations of the ``com.microsoft`` domain, and those older files have as standard ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

DOMAIN = "com.microsoft"


def _moments(x: Tensor, dims: list[int], epsilon: float, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Mean and ``1 / √(mean square + ε)`` over the dimensions, in float32 or wider."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = wide.mean(dims, keepdim=True)
    spread = ((wide - mean if centred else wide) ** 2).mean(dims, keepdim=True)
    return mean, torch.rsqrt(spread + epsilon)


@operator("LayerNormalization", domain=DOMAIN)
@operator("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    wanted: tuple[bool, ...] = (),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``(x - mean) / √(variance + ε) scale + b`` over the dimensions from ``axis`` on."""
    first = axis % x.dim()
    shape = x.shape[first:]
    bias = None if b is None else b.expand(shape)
    y = F.layer_norm(x, shape, scale.expand(shape), bias, epsilon)
    if not any(wanted[1:]):
        return y, None, None
    return y, *_moments(x, list(range(first, x.dim())), epsilon, centred=True)


@operator("SimplifiedLayerNormalization", domain=DOMAIN)
@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    x: Tensor,
    scale: Tensor,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    wanted: tuple[bool, ...] = (),
) -> tuple[Tensor, Tensor | None]:
    """``x / √(mean square + ε) scale`` over the dimensions from ``axis`` on."""
    first = axis % x.dim()
    shape = x.shape[first:]
    y = F.rms_norm(x, shape, scale.expand(shape), epsilon)
    if not any(wanted[1:]):
        return y, None
    return y, _moments(x, list(range(first, x.dim())), epsilon, centred=False)[1]


@operator("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    wanted: tuple[bool, ...] = (),
) -> tuple[Any, ...]:
    """Layer normalization of ``x + skip + bias``, which is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    return *layer_normalization(total, gamma, beta, epsilon=epsilon, wanted=wanted[:3]), total


@operator("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    wanted: tuple[bool, ...] = (),
) -> tuple[Any, ...]:
    """Root-mean-square normalization of ``x + skip + bias``, which is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    y = F.rms_norm(total, gamma.shape, gamma, epsilon)
    moments = _moments(total, [-1], epsilon, centred=False) if any(wanted[1:3]) else (None, None)
    return y, *moments, total


@operator("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalization of the sum of the embeddings; the mask's count; and the sum."""
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
    total = F.embedding(input_ids.long(), word_embedding)
    total = total + F.embedding(position_ids.long(), position_embedding)
    if segment_ids is not None and segment_embedding is not None:
        total = total + F.embedding(segment_ids.long(), segment_embedding)
    counted = input_ids.new_zeros(len(input_ids)) if mask is None else mask.sum(-1)
    y = F.layer_norm(total, gamma.shape, gamma, beta, epsilon)
    return y, counted.to(torch.int32), total
