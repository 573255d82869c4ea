"""Training a recipe to the end, as its user would: a plain loop that knows nothing of gradaudit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Recipe
from tests.corpus.case import Case

_OPTIMIZERS: Mapping[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
_TAKES = {
    "sgd": ("momentum", "weight_decay"),
    "adam": ("betas", "eps", "weight_decay"),
    "adamw": ("betas", "eps", "weight_decay"),
    "rmsprop": ("momentum", "eps", "weight_decay"),
}
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Outcome:
    """One run: losses are in the task's own units, also where the target was rescaled."""

    first: float
    final: float | None  # mean over the last 5% of the steps, 20 at least; None: not finite
    broke_at: int | None  # the step whose loss was not finite
    curve: tuple[float, ...]  # some 20 means along the way


@dataclass(frozen=True)
class Change:
    """What ``recipe.json`` asks for, beside a repaired start."""

    start: Mapping[str, Tensor]
    recipe: Mapping[str, Any]


def train(case: Case, seed: int, change: Change | None = None) -> Outcome:
    """Train with one seed for all of the recipe's steps, or until the loss is not finite."""
    recipe, written = case.recipe, dict(change.recipe) if change else {}
    model = case.model(seed if change is None else 0)
    if change is not None:
        model.load_state_dict(dict(change.start))
    model.train()
    torch.manual_seed(seed + 100)
    optimizer = _optimizer(model, recipe, written)
    half = _HALF.get(recipe.precision or "")
    pure = any(p.dtype in _HALF.values() for p in model.parameters())
    scaler = None
    if recipe.precision == "fp16" and not pure:
        scaler = torch.amp.GradScaler("cpu", init_scale=written.get("loss_scale") or 65536.0)
    context = torch.autocast("cpu", dtype=half) if half and not pure else nullcontext()
    clip = written.get("clip_norm") or recipe.clip_norm
    losses: list[float] = []
    stream = case.task.stream(seed)
    shares = _shares(recipe, written)
    full = [group["lr"] for group in optimizer.param_groups]
    for step in range(recipe.steps):
        inputs, target = next(stream)
        for group, rate in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = rate * shares(step)
        optimizer.zero_grad()
        with context:
            output = _call(model, _scaled(inputs, written.get("input")))
            loss, shown = _losses(case, output, target, written.get("target"))
        if not math.isfinite(shown):
            break
        losses.append(shown)
        _step(model, optimizer, scaler, loss, clip)
    return _outcome(losses, recipe.steps)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    loss: Tensor,
    clip: float | None,
) -> None:
    if scaler is None:
        loss.backward()
    else:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _optimizer(
    model: nn.Module, recipe: Recipe, written: Mapping[str, Any]
) -> torch.optim.Optimizer:
    name = written.get("optimizer") or recipe.optimizer or "adamw"
    lr = written.get("lr") or recipe.lr or 1e-3
    options = {}
    for key in _TAKES[name]:
        value = written.get(key)
        value = getattr(recipe, key) if value is None else value
        if value is not None:
            options[key] = value
    trainable = [p for p in model.parameters() if p.requires_grad]
    made: torch.optim.Optimizer = _OPTIMIZERS[name](trainable, lr=lr, **options)
    return made


def _shares(recipe: Recipe, written: Mapping[str, Any]) -> Any:
    warmup = written.get("warmup_steps")
    warmup = recipe.warmup if warmup is None else warmup
    schedule = written.get("schedule")

    def share(step: int) -> float:
        part = min(1.0, (step + 1) / warmup) if warmup else 1.0
        done = step / max(1, recipe.steps)
        if schedule == "cosine":
            part *= 0.5 * (1 + math.cos(math.pi * done))
        elif schedule == "linear":
            part *= 1 - done
        return part

    return share


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _numbers(how: Mapping[str, Any] | None, like: Tensor) -> tuple[Tensor, Tensor] | None:
    if not how or how.get("scale") is None or not like.is_floating_point():
        return None
    shift, scale = (torch.tensor(how[key], dtype=like.dtype) for key in ("shift", "scale"))
    return shift, scale


def _scaled(inputs: Any, how: Mapping[str, Any] | None) -> Any:
    if not isinstance(inputs, Tensor):
        return inputs
    numbers = _numbers(how, inputs)
    return inputs if numbers is None else (inputs - numbers[0]) / numbers[1]


def _losses(
    case: Case, output: Any, target: Any, how: Mapping[str, Any] | None
) -> tuple[Tensor, float]:
    """The loss to be followed downhill, and the one in the task's own units."""
    if isinstance(output, Tensor):
        output = output.float()
    numbers = _numbers(how, target) if isinstance(target, Tensor) else None
    if numbers is None:
        loss = case.task.measure(output, target)
        return loss, float(loss.detach())
    shift, scale = numbers
    loss = case.task.measure(output, (target - shift) / scale)
    own = case.task.measure(output.detach() * scale + shift, target)
    return loss, float(own)


def _outcome(losses: list[float], steps: int) -> Outcome:
    broke = len(losses) if len(losses) < steps else None
    tail = losses[-max(20, steps // 20) :]
    width = max(1, steps // 20)
    curve = tuple(
        sum(losses[i : i + width]) / len(losses[i : i + width])
        for i in range(0, len(losses), width)
    )
    final = None if broke is not None else sum(tail) / len(tail)
    return Outcome(losses[0] if losses else math.inf, final, broke, curve)
