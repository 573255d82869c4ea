"""Attention weights as entropies: from logits, or from a fused kernel's queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 22  # logits looked at together: 16 MiB in float32
# A key is masked at -inf or far below anything a product gives: -1e4 is the smallest mask in use.
_MASKED, _TIMES_TOP = 9e3, 30.0


@dataclass
class Looks:
    """What the queries of one softmax do; tensors of shape [*leading, queries]."""

    share: Tensor  # NaN where a query has fewer than two keys
    masked: Tensor  # no key at all
    keys: int
    largest: float  # largest |logit| that no mask took


def of_kernel(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a fused kernel that say what its weights are."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    mask = given.get("attn_mask", given.get("attn_bias"))
    return {
        "query": given["query"],
        "key": given["key"],
        "mask": mask,
        "causal": bool(given.get("is_causal", False)),
        "scale": given.get("scale"),
    }


def fused_looks(
    query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Looks:
    """``softmax(scale Q K^T + mask)`` of [..., T, D] and [..., S, D], some queries at a time."""
    if key.shape[:-2] != query.shape[:-2]:  # grouped queries share a head of keys
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    count, keys = query.shape[-2], key.shape[-2]
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    step = max(1, _CHUNK // max(1, query[..., 0, 0].numel() * keys))
    parts = []
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        logits = _wide(query[..., rows, :]) @ _wide(key).mT * factor
        if mask is not None:
            some = mask[..., rows, :] if mask.dim() > 1 and mask.shape[-2] > 1 else mask
            logits = (
                logits.masked_fill(~some, -torch.inf) if some.dtype == torch.bool else logits + some
            )
        if causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
            logits = logits.masked_fill(later.triu(start + 1), -torch.inf)
        parts.append(looks_of(logits))
    return _joined(parts)


def looks_of(logits: Tensor) -> Looks:
    """Entropy shares of logits ``[*leading, queries, keys]``, a piece at a time."""
    shape, keys = logits.shape[:-1], logits.shape[-1]
    rows = logits.reshape(-1, keys)
    if not rows.numel():
        return Looks(torch.full(shape, torch.nan), torch.ones(shape, dtype=torch.bool), keys, 0.0)
    parts = [_piece(part) for part in rows.split(max(1, _CHUNK // keys))]
    share = torch.cat([part.share for part in parts]).reshape(shape)
    masked = torch.cat([part.masked for part in parts]).reshape(shape)
    return Looks(share, masked, keys, _largest(parts))


def _piece(logits: Tensor) -> Looks:
    """The same of ``[rows, keys]`` at once. ``H = ln Z - sum p (l - max)``."""
    logits = _wide(logits)
    top = logits.amax(-1, keepdim=True)
    masked = logits <= -(_TIMES_TOP * top).clamp_min(_MASKED)
    allowed = logits.shape[-1] - masked.sum(-1)
    largest = float(logits.masked_fill(masked, 0.0).abs().max())
    below = (logits - top).masked_fill(masked, 0.0)
    weights = below.exp().masked_fill(masked, 0.0)
    total = weights.sum(-1)
    entropy = total.log() - (weights * below).sum(-1) / total
    share = (entropy / allowed.to(entropy.dtype).log()).clamp(0.0, 1.0)
    return Looks(share.masked_fill(allowed < 2, torch.nan), allowed == 0, logits.shape[-1], largest)


def _joined(parts: list[Looks]) -> Looks:
    share = torch.cat([part.share for part in parts], dim=-1)
    masked = torch.cat([part.masked for part in parts], dim=-1)
    return Looks(share, masked, parts[0].keys, _largest(parts))


def _largest(parts: list[Looks]) -> float:
    """The largest of all, NaN if any is."""
    found = [part.largest for part in parts]
    return math.nan if any(math.isnan(each) for each in found) else max(found)


def _wide(tensor: Tensor) -> Tensor:
    """Half precision as float32."""
    return tensor.float() if tensor.itemsize < 4 else tensor
