"""Ensembles of decision trees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator

_SUM, _MEMBER, _REDUCTIONS = 1, 6, {2: "amin", 3: "amax"}


@operator("TreeEnsemble", domain="ai.onnx.ml", since=5)
def tree_ensemble(
    x: Tensor,
    *,
    tree_roots: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_splits: Tensor,
    nodes_modes: Tensor,
    nodes_truenodeids: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_trueleafs: Sequence[int],
    nodes_falseleafs: Sequence[int],
    leaf_targetids: Sequence[int],
    leaf_weights: Tensor,
    n_targets: int = 1,
    aggregate_function: int = 1,
    post_transform: int = 0,
    nodes_missing_value_tracks_true: Sequence[int] = (),
    membership_values: Tensor | None = None,
    nodes_hitrates: Tensor | None = None,
) -> Tensor:
    """``[N, n_targets]``: each tree's leaf for each sample, aggregated by the leaf's target."""

    def column(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=x.device)

    feature = column(nodes_featureids)
    missing = column(nodes_missing_value_tracks_true or [0] * len(nodes_featureids)).bool()
    onward = torch.stack([column(nodes_falsenodeids), column(nodes_truenodeids)])
    is_leaf = torch.stack([column(nodes_falseleafs), column(nodes_trueleafs)]).bool()
    members = _members(nodes_modes.to(x.device), membership_values, x)
    place = column(tree_roots).expand(x.shape[0], -1)
    done = torch.zeros_like(place, dtype=torch.bool)
    while not done.all():
        node = torch.where(done, 0, place)
        value = x.gather(1, feature[node])
        holds = _compared(value, nodes_splits.to(x)[node], nodes_modes.to(x.device)[node])
        holds |= (value.unsqueeze(-1) == members[node]).any(-1)
        side = torch.where(value.isnan(), missing[node], holds).long()
        place = torch.where(done, place, onward[side, node])
        done = done | is_leaf[side, node]
    weights = leaf_weights.to(x)[place]
    target = column(leaf_targetids)[place]
    scores = _aggregated(weights, target, n_targets, aggregate_function)
    return _transformed(scores, post_transform)


def _compared(value: Tensor, split: Tensor, mode: Tensor) -> Tensor:
    """Whether the node's comparison holds; the modes are numbered in this order."""
    tests = [value <= split, value < split, value >= split, value > split]
    tests += [value == split, value != split, torch.zeros_like(value, dtype=torch.bool)]
    return torch.stack(tests).gather(0, mode.long().unsqueeze(0)).squeeze(0)


def _members(modes: Tensor, values: Tensor | None, x: Tensor) -> Tensor:
    """``[nodes, most]``: each node's set, filled up with what is not a number."""
    if values is None:
        return x.new_full((len(modes), 1), torch.nan)
    ends = values.isnan().nonzero().reshape(-1).tolist()
    sizes = [end - start for start, end in zip([-1, *ends[:-1]], ends, strict=True)]
    sets = [each[~each.isnan()] for each in values[: sum(sizes)].split(sizes)]
    table = x.new_full((len(modes), max(sizes)), torch.nan)
    for node, each in zip((modes == _MEMBER).nonzero().reshape(-1).tolist(), sets, strict=True):
        table[node, : len(each)] = each.to(x)
    return table


def _aggregated(weights: Tensor, target: Tensor, targets: int, function: int) -> Tensor:
    zeros = weights.new_zeros(len(weights), targets)
    if function in _REDUCTIONS:
        return zeros.scatter_reduce(1, target, weights, _REDUCTIONS[function], include_self=False)
    total = zeros.scatter_add(1, target, weights)
    return total if function == _SUM else total / weights.shape[1]


def _transformed(scores: Tensor, function: int) -> Tensor:
    """Nothing, softmax, logistic, softmax of what is not zero, or probit, in ONNX's numbers."""
    if function == 0:
        return scores
    if function == 1:
        return torch.softmax(scores, -1)
    if function == 2:
        return torch.sigmoid(scores)
    if function == 3:
        masked = scores.masked_fill(scores == 0, -torch.inf)
        return torch.softmax(masked, -1).nan_to_num(0.0)
    return torch.special.ndtri(scores)
