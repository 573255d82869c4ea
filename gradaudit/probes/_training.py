"""Training steps as the user would take them: optimizer, rate, warm-up, clipping."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import ModelError
from gradaudit.probes._hooks import backward, clear_gradients, take_loss
from gradaudit.probes.trace import l2_norm
from gradaudit.records import Recipe
from gradaudit.subject.opened import Batch, Objective, Opened

_KNOWN: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
# Options of the recipe that each optimizer takes.
_OPTIONS = {
    "sgd": ("momentum", "weight_decay"),
    "adam": ("betas", "eps", "weight_decay"),
    "adamw": ("betas", "eps", "weight_decay"),
    "rmsprop": ("momentum", "eps", "weight_decay"),
}
DEFAULT_OPTIMIZER = "adamw"
_SPARSE = ("sgd", "adagrad", "sparseadam")  # those of torch that take sparse gradients
DEFAULT_RATES = {"sgd": 1e-2, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}


@dataclass(frozen=True)
class Choice:
    """The optimizer that takes the steps: the user's where there is one, else the prescribed."""

    name: str
    rate: float | None  # None: the user's own factory sets it
    prescribed: bool  # optimizer or rate is not the user's
    build: Callable[[nn.Module], torch.optim.Optimizer]
    replaced: bool = False  # the recipe names an optimizer that is not known here


def step_hindrance(opened: Opened) -> str:
    """Why the optimizer cannot take single steps on the model; empty where it can."""
    sparse = _has_sparse_gradients(opened.model)
    if opened.model is None or (opened.make_optimizer is None and not sparse):
        return ""
    optimizer = choose_optimizer(opened).build(opened.model)
    kind = type(optimizer)
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return f"{kind.__name__} evaluates the loss several times a step"
    why = "takes no sparse gradients, as the model's embeddings have"
    if sparse and opened.recipe.clip_norm is not None:
        return f"clip_grad_norm_ {why}"
    if sparse and kind.__module__.startswith("torch.optim"):
        if kind.__name__.lower() not in _SPARSE:
            return f"{kind.__name__} {why}"
        if any(group.get("weight_decay") for group in optimizer.param_groups):
            return f"{kind.__name__} with weight decay {why}"
    return ""


def _has_sparse_gradients(model: nn.Module | None) -> bool:
    modules = () if model is None else model.modules()
    tables = [m for m in modules if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return any(table.sparse and table.weight.requires_grad for table in tables)


def choose_optimizer(opened: Opened, rate: float | None = None) -> Choice:
    """The optimizer of ``opened``, at ``rate`` where it is given instead of its own.

    The user's own factory comes first, then the recipe, then a class of ``torch.optim`` by its
    name. What the recipe leaves open is prescribed: AdamW, or SGD where gradients are sparse, and
    ``rate`` or the default rate.
    """
    recipe = opened.recipe
    if opened.make_optimizer is not None:
        return _users(opened, rate)
    name = _known_name(recipe.optimizer)
    if name is None:
        name = "sgd" if _has_sparse_gradients(opened.model) else DEFAULT_OPTIMIZER
        prescribed = True
    else:
        prescribed = recipe.lr is None
    chosen = rate or recipe.lr or DEFAULT_RATES.get(name, 1e-3)

    def build(model: nn.Module) -> torch.optim.Optimizer:
        trainable = [p for p in model.parameters() if p.requires_grad]
        kind = _KNOWN.get(name) or _torch_classes()[name]
        optimizer: torch.optim.Optimizer = kind(trainable, lr=chosen, **_options(name, recipe))
        return optimizer

    replaced = recipe.optimizer is not None and _known_name(recipe.optimizer) is None
    return Choice(name, chosen, prescribed, build, replaced)


def _users(opened: Opened, rate: float | None) -> Choice:
    make = opened.make_optimizer
    assert make is not None

    def build(model: nn.Module) -> torch.optim.Optimizer:
        try:
            optimizer = make(model.parameters())
        except Exception as error:
            raise ModelError(
                f"the optimizer's factory raised {type(error).__name__}: {error}",
                expected="a callable from parameters to a torch.optim.Optimizer",
            ) from error
        top = max(group["lr"] for group in optimizer.param_groups)
        if rate is not None and top:
            factor = rate / top
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * factor
        return optimizer

    return Choice(opened.recipe.optimizer or "custom", rate, False, build)


def _torch_classes() -> dict[str, Any]:
    """Further optimizers of torch that need parameters and a rate only, by lower-case name."""
    names = ("NAdam", "RAdam", "Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop")
    return {name.lower(): getattr(torch.optim, name) for name in names}


def _known_name(name: str | None) -> str | None:
    low = (name or "").lower()
    return low if low in _KNOWN or low in _torch_classes() else None


def _options(name: str, recipe: Recipe) -> dict[str, Any]:
    values = {option: getattr(recipe, option) for option in _OPTIONS.get(name, ())}
    return {option: value for option, value in values.items() if value is not None}


def optimizer_name(choice: Choice, optimizer: torch.optim.Optimizer) -> str:
    """The recipe's word for it, else its class's name."""
    return choice.name if choice.name != "custom" else type(optimizer).__name__.lower()


@dataclass(frozen=True)
class Step:
    """What one step showed before the weights moved."""

    loss: float
    gradient_norm: float  # before clipping, all parameters; 0.0 where the loss was not finite
    sound: bool  # loss and gradients were finite, and the step was taken


def take_step(
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    *,
    clip_norm: float | None = None,
) -> Step:
    """Forward, backward, clip, step: bit for bit what the plain training loop does.

    Where loss or gradient is not finite the step is not taken and the gradients are dropped, so
    that the model still holds the weights that made it so. Raises :class:`ModelError`.
    """
    optimizer.zero_grad(set_to_none=True)
    clear_gradients(model)  # those the optimizer does not hold
    _, loss = take_loss(model, objective, batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        return Step(value, 0.0, False)
    if loss.requires_grad:
        backward(loss)
    norm = global_norm(model)
    if not math.isfinite(norm):
        clear_gradients(model)
        return Step(value, 0.0, False)
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return Step(value, norm, True)


def global_norm(model: nn.Module) -> float:
    """L2 norm of all gradients together; in float64 where float32 squares would not do."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if gradients and not any(g.is_sparse for g in gradients):
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if 1e-15 < norm < 1e18:
            return norm
    return math.hypot(*(float(l2_norm(_values(g))) for g in gradients))


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient
