"""Attention of the standard operators, plain and linear, and rotary embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._attending import (
    HALVES,
    NEVER,
    attend,
    attend_in_steps,
    both,
    join_heads,
    split_heads,
    window,
)
from gradaudit.onnx_graph.operators._rotary import rotate
from gradaudit.onnx_graph.registry import operator
from gradaudit.onnx_graph.tensors import DTYPES


@operator("Attention", since=23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    wanted: Sequence[bool] = (),
) -> tuple[Tensor | None, ...]:
    """``softmax(scale q kᵀ + mask) v`` by heads; keys and values follow those of the past."""
    packed = q.dim() == 3
    q, k, v = _by_heads(q, q_num_heads), _by_heads(k, kv_num_heads), _by_heads(v, kv_num_heads)
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    bias, seen = _mask(attn_mask, k.shape[2])
    apart = attn_mask is None and past_key is None and nonpad_kv_seqlen is None
    causal = bool(is_causal) and apart and left_window_size < 0
    if not causal:
        bounds = (left_window_size, 0 if is_causal else right_window_size)
        past = 0 if past_key is None else past_key.shape[2]
        seen = both(seen, _visible(q, k, bounds, past, nonpad_kv_seqlen))
    precision = None if softmax_precision is None else DTYPES[softmax_precision]
    stage = len(wanted) > 3 and wanted[3]
    if not (softcap or stage) and _as_kernels(precision, q.dtype):
        y = attend(q, k, v, seen=seen, bias=bias, causal=causal, scale=scale)
        return join_heads(y) if packed else y, k, v, None
    if causal:
        seen = window(q.shape[2], k.shape[2], 0, right=0, device=q.device)
    y, steps = attend_in_steps(
        q, k, v, seen=seen, bias=bias, scale=scale, softcap=softcap, precision=precision
    )
    return join_heads(y) if packed else y, k, v, steps[qk_matmul_output_mode]


def _by_heads(x: Tensor, heads: int | None) -> Tensor:
    if x.dim() == 4:
        return x
    if x.dim() != 3 or heads is None:
        raise ValueError(
            f"expected inputs of 4 dimensions, or of 3 with q_num_heads and kv_num_heads, "
            f"found {list(x.shape)}"
        )
    return split_heads(x, heads)


def _mask(mask: Tensor | None, keys: int) -> tuple[Tensor | None, Tensor | None]:
    """A mask as what is added to scores, or as what is seen, for all keys."""
    if mask is None:
        return None, None
    seen = mask.dtype == torch.bool
    if mask.shape[-1] < keys:
        mask = F.pad(mask, (0, keys - mask.shape[-1]), value=False if seen else NEVER)
    mask = mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
    return (None, mask) if seen else (mask, None)


def _visible(
    q: Tensor, k: Tensor, bounds: tuple[int, int], past: int, lengths: Tensor | None
) -> Tensor | None:
    """The keys within a sample's length and within the bounds around a query's own position."""
    queries, keys = q.shape[2], k.shape[2]
    seen, offset = None, None
    if lengths is not None:
        lengths = lengths.view(-1, 1, 1, 1)
        seen = torch.arange(keys, device=q.device) < lengths
        offset = lengths - queries
    if max(bounds) < 0:
        return seen
    return both(seen, window(queries, keys, past if offset is None else offset, *bounds, q.device))


def _as_kernels(precision: torch.dtype | None, dtype: torch.dtype) -> bool:
    """Whether torch's kernels take their softmax in this precision: float32 for halves."""
    return precision in (None, dtype) or (precision == torch.float32 and dtype in HALVES)


@operator("FlexAttention", domain="ai.onnx.preview")
def flex_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prob_mod: Callable[..., tuple[Tensor, ...]] | None = None,
    scale: float | None = None,
    score_mod: Callable[..., tuple[Tensor, ...]] | None = None,
    softmax_precision: int | None = None,
) -> Tensor:
    """``prob_mod(softmax(score_mod(scale q kᵀ))) v`` by heads."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    precision = wide if softmax_precision is None else DTYPES[softmax_precision]
    if score_mod is None and prob_mod is None and _as_kernels(precision, q.dtype):
        return attend(q, k, v, scale=scale)
    y, _ = attend_in_steps(
        q,
        k,
        v,
        scale=scale,
        precision=precision,
        score_mod=None if score_mod is None else lambda scores: score_mod(scores)[0],
        weight_mod=None if prob_mod is None else lambda weights: prob_mod(weights)[0],
    )
    return y


@operator("RotaryEmbedding", since=23)
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Turn pairs of features by the angles of their positions; both caches ``[positions, r/2]``."""
    if x.dim() == 3 and not num_heads:
        raise ValueError("expected num_heads with an input of 3 dimensions")
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
    by_heads = split_heads(x, num_heads) if x.dim() == 3 else x
    turned = 2 * cos_cache.shape[-1]
    if turned != (rotary_embedding_dim or by_heads.shape[-1]):
        raise ValueError(
            f"expected caches of half of {rotary_embedding_dim or by_heads.shape[-1]} features, "
            f"found {cos_cache.shape[-1]}"
        )
    y = rotate(by_heads, cos_cache, sin_cache, bool(interleaved))
    return join_heads(y) if x.dim() == 3 else y
