"""Bring the products of queries and keys back to the size at which a softmax passes gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies import embedding_scale
from gradaudit.remedies._code import MODEL, dict_literal, rounded
from gradaudit.remedies._layers import codes, may_reset
from gradaudit.rules.collapsed_attention import collapsed_calls
from gradaudit.settings import Settings

ORDER = 42

_SOUND = 3.0  # largest logit: torch's own start gives 2 to 3 on inputs of unit variance

_SMALLER = """\

with torch.no_grad():
    for name, factor in QUERY_KEY.items():
        layer = model.get_submodule(name)
        width = layer.embed_dim
        if layer.in_proj_weight is None:
            layer.q_proj_weight.mul_(factor)
            layer.k_proj_weight.mul_(factor)
        else:
            layer.in_proj_weight[: 2 * width].mul_(factor)
        if layer.in_proj_bias is not None:
            layer.in_proj_bias[: 2 * width].mul_(factor)
"""
_NORMALISED = """\
import math

import torch
from torch import nn
from torch.nn import functional as F


class NormalisedAttention(nn.Module):
    \"\"\"Cosines times one learned number: logits cannot outgrow it (Henry et al. 2020).\"\"\"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.log2(length * length - length)))

    def forward(self, q, k, v, mask=None):  # [batch, heads, time, width]
        q, k = self.scale * F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """Smaller query and key weights of ``nn.MultiheadAttention``; for others QK norm, shown."""
    if "GA403" not in codes(findings) or not may_reset(measurements):
        return
    if "GA403" in embedding_scale.blamed(findings, measurements, settings):
        return
    largest: dict[str, float] = {}
    for row, _ in collapsed_calls(measurements, settings):
        largest[row.module] = max(largest.get(row.module, 0.0), row.largest_logit or 0.0)
    kinds = {row.module: row.type for row in measurements.modules}
    factors = {
        module: rounded((_SOUND / logit) ** 0.5)
        for module, logit in largest.items()
        if kinds.get(module) == "MultiheadAttention" and logit > _SOUND
    }
    if factors:
        names = ", ".join(f"`{name}`" for name in list(factors)[:3])
        names += ", ..." if len(factors) > 3 else ""
        yield Remedy(
            "attention-scale",
            "initialization",
            f"Shrink the query and key weights of {names}, so that logits start near {_SOUND:g}.",
            {"factor": factors},
            f"{MODEL}\nimport torch\n\n{dict_literal('QUERY_KEY', factors)}{_SMALLER}",
            "changes start values",
            ("GA403",),
            sets=tuple(w.parameter for w in measurements.weights if w.module in factors),
        )
    if set(largest) - set(factors):
        yield Remedy(
            "attention-norm",
            "architecture",
            "Normalise queries and keys before their product.",
            {"modules": tuple(sorted(set(largest) - set(factors)))},
            _NORMALISED,
            "changes architecture: shown, not applied",
            ("GA403",),
        )
