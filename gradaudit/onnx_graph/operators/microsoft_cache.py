"""Attention of the ``com.microsoft`` domain with a cache of keys and values."""

from __future__ import annotations

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


@operator("GroupQueryAttention", domain="com.microsoft")
def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    head_sink: Tensor | None = None,
    *,
    do_rotary: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention, with keys and values shared by groups of heads and kept in a cache."""
    q, k, v = _by_heads(query, key, value, num_heads, kv_num_heads)
    # what a sample has in the cache: nothing while its prompt, padded at its end, is read
    held = (seqlens_k.flatten().long() + 1 - q.shape[2]).clamp(min=0)[:, None]
    places = held + torch.arange(q.shape[2], device=q.device)
    if do_rotary and cos_cache is not None and sin_cache is not None:
        turned = places if position_ids is None else position_ids
        cos, sin = cos_cache[turned], sin_cache[turned]
        q, k = (rotate(each, cos, sin, bool(rotary_interleaved)) for each in (q, k))
    length = int(total_sequence_length)
    keys, values = _kept(past_key, k, places, length), _kept(past_value, v, places, length)
    k, v = keys[:, :, :length], values[:, :, :length]
    left = local_window_size - 1 if local_window_size > 0 else -1
    seen = window(q.shape[2], length, held[..., None, None], left, 0, q.device)
    sink = head_sink if head_sink is not None or not smooth_softmax else q.new_zeros(num_heads)
    factor = scale or None
    if sink is None and not softcap:
        y = attend(q, k, v, seen=seen, bias=attention_bias, scale=factor)
    else:
        column = None if sink is None else sink.view(-1, 1, 1)
        y, _ = attend_in_steps(
            q, k, v, seen=seen, bias=attention_bias, scale=factor, softcap=softcap, sink=column
        )
    return join_heads(y), keys, values


def _by_heads(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    if key is None or value is None:  # all in one, side by side
        size = query.shape[-1] // (heads + 2 * groups)
        query, key, value = query.split([heads * size, groups * size, groups * size], -1)
    return split_heads(query, heads), split_heads(key, groups), split_heads(value, groups)


def _kept(past: Tensor | None, new: Tensor, places: Tensor, length: int) -> Tensor:
    """The cache ``[N, heads, at least length, d]`` with what is new at its places."""
    if past is None:
        past = new[:, :, :0]
    room = F.pad(past, (0, 0, 0, max(length - past.shape[2], 0)))
    return room.scatter(2, places[:, None, :, None].expand_as(new), new)
