"""Attention of the ``com.microsoft`` domain, as onnxruntime's optimizer writes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.operators._attending import (
    attend,
    attend_in_steps,
    join_heads,
    split_heads,
    window,
)
from gradaudit.onnx_graph.operators._rotary import rotate
from gradaudit.onnx_graph.registry import operator

DOMAIN = "com.microsoft"


@operator("Attention", domain=DOMAIN)
def attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Self-attention of ``x W + b``, which is query, key and value side by side."""
    if do_rotary or past_present_share_buffer:
        raise ValueError("expected no do_rotary or past_present_share_buffer, found one")
    projected = F.linear(x, weights.mT, bias)
    sizes = list(qkv_hidden_sizes or [projected.shape[-1] // 3] * 3)
    q, k, v = (split_heads(each, num_heads) for each in projected.split(sizes, -1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    added = _added(mask_index, attention_bias, mask_filter_value, q, k)
    y = _attend(q, k, v, added, unidirectional=unidirectional, scale=scale)
    return join_heads(y), torch.stack([k, v]) if k.shape == v.shape else None


@operator("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
    wanted: tuple[bool, ...] = (),
) -> tuple[Tensor | None, ...]:
    """Attention of projected queries on keys and values, packed or not; ``bias`` is theirs."""
    q, k, v = _query_key_value(query, key, value, bias, num_heads)
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    added = _added(key_padding_mask, attention_bias, mask_filter_value, q, k)
    if any(wanted[3:]):
        seen = _before(q, k) if unidirectional else None
        y, steps = attend_in_steps(q, k, v, seen=seen, bias=added, scale=scale or None)
        return join_heads(y), k, v, steps[2]
    y = _attend(q, k, v, added, unidirectional=unidirectional, scale=scale)
    return join_heads(y), k, v, None


def _query_key_value(
    query: Tensor, key: Tensor | None, value: Tensor | None, bias: Tensor | None, heads: int
) -> tuple[Tensor, ...]:
    """All three as ``[N, heads, S, d]``, with their biases added."""
    if key is None:  # all in one, [N, S, heads, 3, d]
        query, key, value = (each.flatten(2) for each in query.unbind(3))
    elif value is None:  # both in one, [N, S, heads, 2, d]
        key, value = (each.flatten(2) for each in key.unbind(3))
    assert value is not None
    given = [query, key, value]
    if bias is not None:
        widths = [x.shape[-1] * (heads if x.dim() == 4 else 1) for x in given]
        parts = bias.split(widths)
        given = [x if x.dim() == 4 else x + own for x, own in zip(given, parts, strict=True)]
    return tuple(x if x.dim() == 4 else split_heads(x, heads) for x in given)


def _before(q: Tensor, k: Tensor) -> Tensor:
    """Each query sees the keys up to its own, which is the last for the last query."""
    return window(q.shape[2], k.shape[2], k.shape[2] - q.shape[2], right=0, device=q.device)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, *, unidirectional: int, scale: float
) -> Tensor:
    causal = bool(unidirectional) and added is None and q.shape[2] == k.shape[2]
    seen = _before(q, k) if unidirectional and not causal else None
    return attend(q, k, v, seen=seen, bias=added, causal=causal, scale=scale or None)


def _added(
    mask: Tensor | None, bias: Tensor | None, filler: float, q: Tensor, k: Tensor
) -> Tensor | None:
    """What is added to the scores: a bias, and ``filler`` where a mask hides a key."""
    if mask is None:
        return bias
    hidden = ~_shown(mask, q, k)
    added = q.new_zeros(hidden.shape).masked_fill(hidden, filler)
    return added if bias is None else added + bias


def _shown(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """A mask in any of its forms as ``[N, 1, 1 or S, T]``: keys' own, or how many there are."""
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    position = torch.arange(keys, device=q.device)
    if mask.shape == (batch,):
        return (position < mask[:, None])[:, None, None]
    if mask.shape == (2 * batch,):
        end, start = mask[:batch, None], mask[batch:, None]
        return ((start <= position) & (position < end))[:, None, None]
    if mask.shape == (batch, keys):
        return mask.bool()[:, None, None]
    if mask.shape == (batch, queries, keys):
        return mask.bool()[:, None]
    if mask.dim() == 4:
        return mask.bool()[:, :, keys - queries : keys, :keys]
    raise ValueError(
        f"expected a mask of {batch} lengths, or of {keys} keys, found {list(mask.shape)}"
    )


@operator("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Turn pairs of features by the angles of their positions, or of those from the one given."""
    size = x.shape[-1] // num_heads if num_heads else 2 * cos_cache.shape[-1]
    by_heads = x if x.dim() == 4 else x.unflatten(-1, (-1, size)).transpose(1, 2)
    if position_ids.dim() == 1:
        counted = torch.arange(by_heads.shape[2], device=x.device)
        position_ids = (position_ids + counted).expand(len(x), -1)
    y = rotate(by_heads, cos_cache[position_ids], sin_cache[position_ids], bool(interleaved))
    return y if x.dim() == 4 else join_heads(y)
