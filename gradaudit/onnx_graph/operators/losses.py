"""Losses of classification."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

_NONE_IGNORED = -100  # no class has this number


@operator("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = _NONE_IGNORED,
    reduction: str = "mean",
) -> Tensor:
    """``-weight[t] x[n, t]`` for each target, their sum, or their mean by weight."""
    return F.nll_loss(
        x, target.to(torch.int64), weight, ignore_index=ignore_index, reduction=reduction
    )


@operator("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    wanted: Sequence[bool],
    ignore_index: int = _NONE_IGNORED,
    reduction: str = "mean",
) -> Tensor | tuple[Tensor, Tensor]:
    """The negative log likelihood of ``softmax(scores)`` over axis 1, and its logarithm."""
    classes = labels.to(torch.int64)
    if not any(wanted[1:]):
        return F.cross_entropy(
            scores, classes, weights, ignore_index=ignore_index, reduction=reduction
        )
    log_prob = F.log_softmax(scores, 1)
    loss = F.nll_loss(log_prob, classes, weights, ignore_index=ignore_index, reduction=reduction)
    return loss, log_prob
