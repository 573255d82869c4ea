"""What the recipe's first step would leave of itself if the weights were kept in half precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.probes._training import choose_optimizer, step_hindrance
from gradaudit.probes.half_formats import FORMATS, HalfFormat
from gradaudit.records import Estimate, NotMeasured
from gradaudit.subject.opened import Opened

_WHAT = "half-precision updates"
_UNIT = "share of weights that are updated"
EXACT_UP_TO = 1 << 17  # weights; of more a random sample of about so many is looked at


@dataclass(frozen=True)
class Updates:
    """Share of the first step's updates that round away, by format, and the smallest eps."""

    lost: Mapping[str, Estimate]
    eps: float | None
    not_measured: tuple[NotMeasured, ...] = ()


@dataclass(frozen=True)
class _Moved:
    """Looked-at entries of one parameter before the step, what the step added, and their weight."""

    before: Tensor
    step: Tensor
    stands_for: float  # entries of the parameter per entry looked at


def first_updates(
    model: nn.Module, opened: Opened, seed: int, *, look_at: int = EXACT_UP_TO
) -> Updates:
    """Take the recipe's first step (clipped, at the full rate) with the gradients in ``.grad``.

    An update is lost where the weight, rounded to the format, plus the update rounds back to the
    same number. Its interval is what holds for any significand: surely lost below ``eps / 4`` of
    the weight (2^-9 for bfloat16), surely kept above ``eps / 2``. Entries that the step leaves
    alone are not counted. The weights are changed: call it inside a ``borrowed`` of your own.

    Of more than ``look_at`` weights a random sample of that size is looked at, drawn under
    ``seed``, which widens the interval by the sampling error (Wilson's, at 95%).

    Cost: one optimizer step.
    """
    why = _hindrance(opened)
    if why:
        return Updates({}, None, (NotMeasured(_WHAT, "the recipe", why),))
    optimizer = choose_optimizer(opened).build(model)
    eps = _smallest_eps(optimizer)
    named = [p for p in model.parameters() if p.grad is not None and p.is_floating_point()]
    picked = _pick(named, look_at, seed)
    moved = _step(optimizer, named, picked, opened.recipe.clip_norm)
    why = ""
    if not all(bool(each.step.isfinite().all()) for each in moved):
        why = "the recipe's first step is not finite"
    elif not any(bool(each.step.any()) for each in moved):
        why = "the recipe's first step changes no weight"
    if why:
        return Updates({}, eps, (NotMeasured(_WHAT, "the recipe", why),))
    return Updates({form.name: _lost(moved, form) for form in FORMATS}, eps)


def _smallest_eps(optimizer: torch.optim.Optimizer) -> float | None:
    """Over all parameter groups: the first to be zero. (Adafactor's is a pair of another kind.)"""
    given = (group.get("eps") for group in optimizer.param_groups)
    return min((float(eps) for eps in given if isinstance(eps, int | float)), default=None)


def _hindrance(opened: Opened) -> str:
    recipe = opened.recipe
    if opened.make_optimizer is None and (recipe.optimizer is None or recipe.lr is None):
        return "no optimizer and rate were given"
    return step_hindrance(opened)


def _pick(named: Sequence[Tensor], look_at: int, seed: int) -> list[Tensor | None]:
    """Which entries of each parameter to look at; ``None`` for all of them."""
    total = sum(p.numel() for p in named)
    if total <= look_at:
        return [None for _ in named]
    generator = torch.Generator().manual_seed(seed)
    sizes = [(p.numel(), math.ceil(p.numel() * look_at / total)) for p in named]
    return [torch.randint(size, (wanted,), generator=generator) for size, wanted in sizes]


def _step(
    optimizer: torch.optim.Optimizer,
    named: Sequence[Tensor],
    picked: Sequence[Tensor | None],
    clip: float | None,
) -> list[_Moved]:
    """Clip, take the step, and compare what is looked at with what it was."""
    before = [_entries(p, at).clone() for p, at in zip(named, picked, strict=True)]
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(list(named), clip)
    optimizer.step()
    return [
        _Moved(old, _entries(p, at) - old, p.numel() / max(old.numel(), 1))
        for p, at, old in zip(named, picked, before, strict=True)
    ]


def _entries(parameter: Tensor, at: Tensor | None) -> Tensor:
    flat = parameter.detach().reshape(-1)
    return flat if at is None else flat[at.to(flat.device)]


def _lost(moved: Sequence[_Moved], form: HalfFormat) -> Estimate:
    precision = torch.finfo(form.dtype).eps
    shares = torch.zeros(4, dtype=torch.float64)  # updated, surely lost, lost, not surely kept
    spread = 0.0
    for each in moved:
        moves = each.step != 0
        rounded = each.before.to(form.dtype)
        stays = (rounded.to(each.step.dtype) + each.step).to(form.dtype) == rounded
        ratio = each.step.abs() / each.before.abs()  # infinite for a weight of zero
        classes = (moves, ratio < precision / 4, stays, ratio < precision / 2)
        counts = torch.stack([(found & moves).sum() for found in classes]).cpu()
        shares += each.stands_for * counts
        spread += each.stands_for**2 * int(counts[0])
    total, surely, lost, at_most = shares.tolist()
    value, low, high = lost / total, min(surely, lost) / total, max(at_most, lost) / total
    if any(each.stands_for > 1 for each in moved):
        entries = total**2 / spread  # as many entries of one simple random sample know as much
        low, high = _wilson(low, entries)[0], _wilson(high, entries)[1]
    return Estimate(value, low, high, _UNIT)


def _wilson(share: float, entries: float, z: float = 1.959964) -> tuple[float, float]:
    centre = share + z * z / (2 * entries)
    half = z * math.sqrt(share * (1 - share) / entries + (z / (2 * entries)) ** 2)
    scale = 1 + z * z / entries
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
