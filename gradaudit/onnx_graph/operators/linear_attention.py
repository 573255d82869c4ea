"""Attention without a softmax, as a recurrence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._attending import join_heads, shared_heads, split_heads
from gradaudit.onnx_graph.registry import operator

# By rule: whether the state decays, and whether what it already holds for a key is taken off.
_RULES = {
    "linear": (False, False),
    "gated": (True, False),
    "delta": (False, True),
    "gated_delta": (True, True),
}


@operator("LinearAttention", since=27)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Read ``scale S_tᵀ q_t`` of ``S_t = D + k_t ⊗ β_t (v_t - Dᵀ k_t)``, ``D = exp(g_t) S_{t-1}``.

    The rules "linear" and "gated" write ``v_t`` itself; "linear" and "delta" do not decay.
    """
    _check_rule(update_rule, decay, beta)
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k, v = (
        split_heads(each, heads).to(wide)
        for each, heads in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads))
    )
    state = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    if past_state is not None:
        state = past_state.to(wide)
    gates = None if decay is None else split_heads(decay, kv_num_heads).to(wide).exp()[..., None]
    rates = None if beta is None else beta.to(wide).transpose(1, 2)[..., None]
    read = []
    for t in range(q.shape[2]):
        if gates is not None:
            state = gates[:, :, t] * state
        written = v[:, :, t]
        if rates is not None:
            held = (k[:, :, t, None] @ state).squeeze(-2)
            written = rates[:, :, t] * (written - held)
        state = state + k[:, :, t, :, None] * written[:, :, None]
        read.append((q[:, :, t, None] @ shared_heads(state, q_num_heads)).squeeze(-2))
    y = torch.stack(read, 2) * (scale or 1 / math.sqrt(q.shape[-1]))
    kept = query.dtype if past_state is None else past_state.dtype
    return join_heads(y).to(query.dtype), state.to(kept)


def _check_rule(rule: str, decay: Tensor | None, beta: Tensor | None) -> None:
    if rule not in _RULES:
        raise ValueError(f"expected an update rule of {list(_RULES)}, found {rule!r}")
    for needed, given, name in zip(_RULES[rule], (decay, beta), ("decay", "beta"), strict=True):
        if needed != (given is not None):
            raise ValueError(f"expected {'a' if needed else 'no'} {name} with the rule {rule!r}")
