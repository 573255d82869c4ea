"""Rotary position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn pairs of features of ``x [N, heads, S, d]`` by angles ``[N, S, r / 2]``.

    A pair is a feature of each half of the first ``r``, or two neighbours; the rest stays.
    """
    turned = 2 * cos.shape[-1]
    if sin.shape != cos.shape or turned > x.shape[-1]:
        raise ValueError(
            f"expected cosines and sines for at most {x.shape[-1]} features, "
            f"found {list(cos.shape)} and {list(sin.shape)}"
        )
    cos, sin = cos[:, None], sin[:, None]
    part, rest = x[..., :turned], x[..., turned:]
    if interleaved:
        a, b = part.unflatten(-1, (-1, 2)).unbind(-1)
    else:
        a, b = part.chunk(2, -1)
    pair = (cos * a - sin * b, sin * a + cos * b)
    done = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([done, rest], -1)
