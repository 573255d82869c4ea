"""Scaled dot-product attention with all that the attention operators add to it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Modifier = Callable[[Tensor], Tensor]

HALVES = (torch.float16, torch.bfloat16)
NEVER = -torch.inf  # added to a score, it leaves the key out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[N, S, heads·d]`` as ``[N, heads, S, d]``."""
    if heads < 1 or x.shape[-1] % heads:
        raise ValueError(f"expected a last dimension of {heads} equal heads, found {x.shape[-1]}")
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """``[N, heads, S, d]`` as ``[N, S, heads·d]``."""
    return x.transpose(1, 2).flatten(2)


def shared_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values ``[N, G, S, d]`` once per query head; neighbours share one."""
    if x.shape[1] == heads:
        return x
    if heads % x.shape[1]:
        raise ValueError(f"expected {x.shape[1]} key heads to divide {heads} query heads")
    return x.repeat_interleave(heads // x.shape[1], 1)


def window(
    queries: int,
    keys: int,
    offset: int | Tensor,
    left: int = -1,
    right: int = -1,
    device: torch.device | None = None,
) -> Tensor:
    """Whether query ``i``, at position ``p = offset + i``, sees key ``j``: ``p-left<=j<=p+right``.

    A negative bound is none. ``offset`` may be a tensor that broadcasts to ``[..., 1, 1]``.
    """
    ahead = torch.arange(keys, device=device) - torch.arange(queries, device=device)[:, None]
    ahead = ahead - offset
    seen = torch.ones_like(ahead, dtype=torch.bool)
    if left >= 0:
        seen = seen & (ahead >= -left)
    if right >= 0:
        seen = seen & (ahead <= right)
    return seen


def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Two masks as one."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seen: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """``softmax(scale q kᵀ + bias) v`` over the keys seen, zero where none is.

    ``causal`` goes without ``seen`` and ``bias``: query ``i`` sees the keys up to ``i``.
    """
    # a CPU's kernel for halves rounds more in between than ONNX's own tests allow
    kind = torch.float32 if q.dtype in HALVES and q.device.type == "cpu" else q.dtype
    mask = seen
    if bias is not None:
        bias = bias.to(kind)
        mask = bias if seen is None else bias.masked_fill(~seen, NEVER)
    y = F.scaled_dot_product_attention(
        q.to(kind),
        k.to(kind),
        v.to(kind),
        mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return y.to(q.dtype)


def attend_in_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seen: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    precision: torch.dtype | None = None,
    sink: Tensor | None = None,
    score_mod: Modifier | None = None,
    weight_mod: Modifier | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Do the same one step at a time, with scores capped to ``softcap·tanh(score / softcap)``.

    ``sink`` is the score of one more key, whose value is zero; the modifiers change scores before
    the softmax and weights after it. Also returns what the steps made: scores, capped scores,
    biased scores, and the weights of the values.
    """
    k, v = shared_heads(k, q.shape[1]), shared_heads(v, q.shape[1])
    root = q.new_tensor(math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else scale))
    scores = (q * root) @ (k * root).mT
    capped = softcap * torch.tanh(scores / softcap) if softcap else scores
    biased = capped
    if bias is not None:
        biased = capped + bias.to(q.dtype)
        seen = both(seen, bias != NEVER)
    if seen is not None:
        biased = biased.masked_fill(~seen, NEVER)
    wide = biased.to(precision or q.dtype)
    weights = _weights(wide if score_mod is None else score_mod(wide), seen, sink)
    weights = (weights if weight_mod is None else weight_mod(weights)).to(q.dtype)
    return weights @ v.to(q.dtype), [scores, capped, biased, weights]


def _weights(scores: Tensor, seen: Tensor | None, sink: Tensor | None) -> Tensor:
    if sink is not None:
        column = sink.to(scores.dtype).expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]
    if seen is None:
        return torch.softmax(scores, -1)
    none = ~seen.any(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(none, 0), -1).masked_fill(none, 0)
