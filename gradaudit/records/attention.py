"""What attention does: where it looks, and how large its bilinear and value maps are."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.records.estimate import Estimate


@dataclass(frozen=True)
class AttentionRow:
    """The attention weights of one call, over the batch's queries."""

    module: str
    call: int
    heads: int
    queries: int
    keys: int
    entropy: Estimate | None  # mean over heads and queries, as a share of ln(keys allowed)
    lowest_head: int | None  # the head of the lowest mean entropy
    lowest_entropy: float | None  # and that entropy, as a share of the same
    masked_queries: int = 0  # queries that may look at no key at all
    largest_logit: float | None = None  # largest |logit| before the softmax


@dataclass(frozen=True)
class HeadRow:
    """One head as two products of weights (Elhage et al. 2021): what it compares, what it moves."""

    module: str
    head: int
    qk: Estimate | None  # spectral norm of W_Q^T W_K / sqrt(head width)
    ov: Estimate | None  # spectral norm of W_O W_V
