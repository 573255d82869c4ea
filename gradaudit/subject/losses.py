"""The losses known by name: how each lines output and target up, and its best constant.

All are means over the elements (``kl_div``: over the batch), as torch's defaults are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gradaudit.errors import BadData

Pair = tuple[torch.Tensor, torch.Tensor]
IGNORED = -100  # the class index torch's cross entropy leaves out


@dataclass(frozen=True)
class Named:
    """A loss on lined-up tensors; ``constant`` takes targets as rows x features in float64."""

    name: str
    align: Callable[[torch.Tensor, torch.Tensor], Pair]
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    constant: Callable[[torch.Tensor], float | None]
    classes: bool = False  # target holds class indices
    least: Callable[[torch.Tensor], float | None] = lambda _: 0.0  # of a perfect prediction

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The scalar loss; ``BadData`` if the two do not fit."""
        return self.function(*self.align(output, target))


def align_elementwise(output: torch.Tensor, target: torch.Tensor) -> Pair:
    """Target in the output's shape and dtype; ``(B, 1)`` fits ``(B,)``, nothing is broadcast."""
    shape, other = list(output.shape), list(target.shape)
    if [s for s in shape if s != 1] != [s for s in other if s != 1]:
        raise BadData(
            "the target does not fit the model's output",
            expected=f"a target of shape {shape}",
            found=str(other),
            next_step="change the target, the last layer, or give --loss file.py:name",
        )
    return output, target.reshape(output.shape).to(output.dtype)


def class_axis(output: torch.Tensor, target: torch.Tensor) -> int | None:
    """Which axis of ``output`` holds the classes that integer ``target`` points at.

    Where both readings fit (``(B, T, C)`` with T = C), 3-D outputs are read as ``(B, T, C)``, as
    linear heads give them, and others as ``(B, C, ...)``, as convolutions do.
    """
    if output.dim() < 1 or output.dim() != target.dim() + 1:
        return None
    first = output.dim() > 1 and output.shape[:1] + output.shape[2:] == target.shape
    last = output.shape[:-1] == target.shape
    if first and last:
        return -1 if output.dim() <= 3 else 1
    if first:
        return 1
    return -1 if last else None


def align_classes(output: torch.Tensor, target: torch.Tensor) -> Pair:
    """Output as ``(N, C)``, target as ``(N,)`` class indices or ``(N, C)`` probabilities."""
    if target.is_floating_point() and output.shape == target.shape and output.dim() > 1:
        over = 1 if output.dim() > 3 else -1
        return _rows(output, over), _rows(target, over).to(output.dtype)
    target = _class_target(output, target)
    axis: int | None = class_axis(output, target)
    flat = output.dim() == 3 and target.dim() == 1
    if flat and target.numel() == output.shape[0] * output.shape[1]:
        axis = -1  # (B, T, C) against (B * T,)
    if axis is None:
        raise BadData(
            "the target does not fit the model's output",
            expected=f"class indices of shape {list(output.shape[:-1])} for an output of shape "
            f"{list(output.shape)}",
            found=f"shape {list(target.shape)}",
            next_step="change the target, the last layer, or give --loss",
        )
    rows = _rows(output, axis)
    _check_range(target, rows.shape[1])
    return rows, target.reshape(-1)


def _class_target(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if target.is_floating_point():
        if not bool((target == target.round()).all()):
            raise BadData(
                "cross entropy needs class indices",
                expected="an integer target, or probabilities in the output's shape",
                found=f"{target.dtype} values of shape {list(target.shape)}".replace("torch.", ""),
                next_step="give --loss mse for a regression",
            )
    elif target.is_complex():
        raise BadData("cross entropy needs class indices", found=str(target.dtype))
    if target.dim() == output.dim() and target.shape[-1:] == (1,) and output.shape[-1:] != (1,):
        target = target.squeeze(-1)  # (B, 1) class columns, as tables hold them
    return target.long()


def _check_range(target: torch.Tensor, classes: int) -> None:
    kept = target[target != IGNORED]
    if kept.numel() == 0:
        return
    low, high = int(kept.min()), int(kept.max())
    if low < 0 or high >= classes:
        raise BadData(
            f"the target holds class {low if low < 0 else high}",
            expected=f"0 to {classes - 1}: the output has {classes} classes",
            next_step="number classes from 0, or widen the last layer",
        )


def _rows(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return tensor.movedim(axis, -1).reshape(-1, tensor.shape[axis])


def _entropy(p: torch.Tensor) -> float:
    p = p[p > 0]
    return float(-(p * p.log()).sum())


def _class_constant(target: torch.Tensor) -> float | None:
    if target.shape[1] > 1:
        return _entropy(target.mean(0))
    kept = target[target != IGNORED]
    if kept.numel() == 0:
        return None
    _, counts = kept.unique(return_counts=True)
    return _entropy(counts.double() / counts.sum())


def _binary_constant(target: torch.Tensor) -> float | None:
    p = target.mean(0)
    if bool((p < 0).any() or (p > 1).any()):
        return None
    return sum(_entropy(torch.stack([q, 1 - q])) for q in p) / len(p)


def _class_least(target: torch.Tensor) -> float | None:
    """Class indices can be met exactly, probabilities cost their own entropy."""
    return _mean_entropy(target) if target.shape[1] > 1 else 0.0


def _binary_least(target: torch.Tensor) -> float | None:
    if bool((target < 0).any() or (target > 1).any()):
        return None
    return _mean_entropy(torch.stack([target, 1 - target], -1).reshape(-1, 2))


def _mean_entropy(rows: torch.Tensor) -> float:
    return float(-(torch.xlogy(rows, rows)).sum(1).mean())


def _kl_constant(target: torch.Tensor) -> float | None:
    mean = target.mean(0)
    terms = torch.where(target > 0, target * (target.clamp_min(1e-300) / mean).log(), 0.0)
    return float(terms.sum(1).mean())


def _variance(target: torch.Tensor) -> float:
    return float(target.var(0, correction=0).mean())


def _mean_deviation(target: torch.Tensor) -> float:
    return float((target - target.median(0).values).abs().mean())


def _searched(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor], float]:
    def constant(target: torch.Tensor) -> float:
        low, high = target.amin(0), target.amax(0)
        for _ in range(100):  # ternary search: each feature's loss is convex in its constant
            a, b = low + (high - low) / 3, high - (high - low) / 3
            left = function(a.expand_as(target), target).mean(0)
            right = function(b.expand_as(target), target).mean(0)
            low, high = torch.where(left > right, a, low), torch.where(left > right, high, b)
        return float(function(((low + high) / 2).expand_as(target), target).mean())

    return constant


def _none(_: torch.Tensor) -> float | None:
    return None


def _nll(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if target.dim() == 2:
        return -(output * target).sum(1).mean()
    return F.nll_loss(output, target)


def _log_nll(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return _nll(output.clamp_min(1e-12).log(), target)


def _kl(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.kl_div(output, target, reduction="batchmean")


LOSSES: dict[str, Named] = {
    loss.name: loss
    for loss in (
        Named("cross_entropy", align_classes, F.cross_entropy, _class_constant, True, _class_least),
        Named("nll", align_classes, _nll, _class_constant, True, _class_least),
        Named("nll_of_probabilities", align_classes, _log_nll, _class_constant, True, _class_least),
        Named("mse", align_elementwise, F.mse_loss, _variance),
        Named("l1", align_elementwise, F.l1_loss, _mean_deviation),
        Named(
            "smooth_l1",
            align_elementwise,
            F.smooth_l1_loss,
            _searched(lambda a, b: F.smooth_l1_loss(a, b, reduction="none")),
        ),
        Named(
            "huber",
            align_elementwise,
            F.huber_loss,
            _searched(lambda a, b: F.huber_loss(a, b, reduction="none")),
        ),
        Named(
            "bce_with_logits",
            align_elementwise,
            F.binary_cross_entropy_with_logits,
            _binary_constant,
            least=_binary_least,
        ),
        Named(
            "bce", align_elementwise, F.binary_cross_entropy, _binary_constant, least=_binary_least
        ),
        Named("kl_div", align_elementwise, _kl, _kl_constant),
        Named("poisson_nll", align_elementwise, F.poisson_nll_loss, _none, least=_none),
        Named("soft_margin", align_elementwise, F.soft_margin_loss, _none, least=_none),
    )
}
ALIASES = {
    "ce": "cross_entropy",
    "crossentropy": "cross_entropy",
    "cross-entropy": "cross_entropy",
    "mae": "l1",
    "l2": "mse",
    "bce-with-logits": "bce_with_logits",
    "bce_logits": "bce_with_logits",
    "nll_loss": "nll",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "kl": "kl_div",
    "poisson": "poisson_nll",
}


def uniform_loss(classes: int) -> float:
    """Cross entropy of the uniform guess, ln C."""
    return math.log(classes)
