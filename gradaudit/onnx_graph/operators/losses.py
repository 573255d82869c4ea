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
    classes = target.to(torch.int64)
    if weight is None:
        return F.nll_loss(x, classes, ignore_index=ignore_index, reduction=reduction)
    each = F.nll_loss(x, classes, ignore_index=ignore_index, reduction="none")
    return _weighted(each, classes, weight, ignore_index, reduction)


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
    if any(wanted[1:]):
        log_prob = F.log_softmax(scores, 1)
        loss = negative_log_likelihood_loss(
            log_prob, classes, weights, ignore_index=ignore_index, reduction=reduction
        )
        return loss, log_prob
    if weights is None:
        return F.cross_entropy(scores, classes, ignore_index=ignore_index, reduction=reduction)
    each = F.cross_entropy(scores, classes, ignore_index=ignore_index, reduction="none")
    return _weighted(each, classes, weights, ignore_index, reduction)


def _weighted(
    each: Tensor, classes: Tensor, weight: Tensor, ignore_index: int, reduction: str
) -> Tensor:
    """Losses times their classes' weights; torch's own have no derivative in the weights."""
    ignored = classes == ignore_index
    own = weight[classes.masked_fill(ignored, 0)].masked_fill(ignored, 0)
    losses = each * own
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / own.sum()
