"""Targets where the sample has none: made to match the model's output, and said so."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gradaudit.subject.batches import batch_tensors
from gradaudit.subject.losses import IGNORED, LOSSES
from gradaudit.subject.objective import CustomObjective, NamedObjective, OwnObjective
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.outputs import main_tensor, own_loss
from gradaudit.subject.trial import run_once

_CLASSES = ("cross_entropy", "nll", "nll_of_probabilities")


@dataclass(frozen=True)
class Plan:
    """How targets are made: for which loss, from what, and why."""

    kind: str  # a name of LOSSES
    source: str  # "random" | "next token" | "input" | "labels"
    why: str


def plan_target(
    output: Any, batch: Batch, objective: Objective | None, model: nn.Module, *, real_inputs: bool
) -> Plan | None:
    """How to make targets for ``output``; ``None`` where the loss needs none.

    ``real_inputs``: the inputs are data, so that an output of their shape is a reconstruction.
    """
    if own_loss(output) is not None or isinstance(objective, OwnObjective):
        return None
    tensor = main_tensor(output)
    if tensor is None or tensor.dim() == 0:
        return None
    tokens = _tokens(batch)
    per_token = tokens is not None and tensor.shape[:-1] == tokens.shape
    per_token = per_token and _is_vocabulary(tensor.shape[-1], model, tokens)
    if objective is None and per_token and _takes_labels(batch, model):
        return Plan("cross_entropy", "labels", "labels are the input tokens")
    kind = _kind(tensor, batch, objective, per_token=per_token)
    if per_token and kind in _CLASSES:
        return Plan(kind, "next token", "each position's target is the next token")
    inputs = batch.named_inputs()
    same = len(inputs) == 1 and getattr(inputs[0][1], "shape", None) == tensor.shape
    if real_inputs and same and kind == "mse" and inputs[0][1].is_floating_point():
        return Plan(kind, "input", "output and input are of one shape, so the target is the input")
    return Plan(kind, "random", f"the target is drawn at random to match the output ({kind})")


def _kind(
    tensor: torch.Tensor, batch: Batch, objective: Objective | None, *, per_token: bool
) -> str:
    if isinstance(objective, NamedObjective):
        return objective.kind
    if isinstance(objective, CustomObjective) and objective.like is not None:
        return objective.like.name
    values = tensor.detach().float()
    wide = tensor.dim() > 1 and tensor.shape[-1] > 1
    if wide and bool((values <= 1e-6).all()) and _ones(values.exp().sum(-1)):
        return "nll"
    if wide and bool((values >= 0).all()) and _ones(values.sum(-1)):
        return "nll_of_probabilities"
    first = batch.named_inputs()[0][1]
    image = isinstance(first, torch.Tensor) and first.dim() == 4
    indices = isinstance(first, torch.Tensor) and not first.is_floating_point()
    if per_token or (wide and tensor.dim() == 2 and (image or indices)):
        return "cross_entropy"
    return "mse"


def _ones(sums: torch.Tensor) -> bool:
    return bool(((sums - 1).abs() < 1e-3).all())


def make_target(
    plan: Plan, shape: torch.Size, batch: Batch, generator: torch.Generator, model: nn.Module
) -> Batch:
    """``batch`` with a target for an output of ``shape``, on the inputs' device."""
    if plan.source == "labels" and isinstance(batch.inputs, Mapping):
        inputs = {**batch.inputs, "labels": batch.inputs["input_ids"]}
        return dataclasses.replace(batch, inputs=inputs)
    if plan.source == "next token":
        tokens = _tokens(batch)
        assert tokens is not None  # the plan was made for tokens
        target = tokens.long().roll(-1, -1)
        target[..., -1] = IGNORED
        return dataclasses.replace(batch, target=target)
    if plan.source == "input":
        return dataclasses.replace(batch, target=batch.named_inputs()[0][1])
    parameter = next(model.parameters())
    drawn = _draw(plan.kind, shape, generator).to(parameter.device)
    target = drawn.to(parameter.dtype) if drawn.is_floating_point() else drawn
    return dataclasses.replace(batch, target=target)


def _draw(kind: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if LOSSES[kind].classes:
        axis = 1 if len(shape) > 3 else len(shape) - 1
        rest = shape[:axis] + shape[axis + 1 :]
        return torch.randint(0, shape[axis], rest, generator=generator)
    if kind in ("bce", "bce_with_logits"):
        return torch.randint(0, 2, shape, generator=generator).float()
    if kind == "soft_margin":
        return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1
    if kind == "kl_div":
        return torch.randn(shape, generator=generator).softmax(-1)
    if kind == "poisson_nll":
        return torch.randint(0, 4, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def _tokens(batch: Batch) -> torch.Tensor | None:
    if isinstance(batch.inputs, Mapping):
        found = batch.inputs.get("input_ids")
    else:
        found = batch.inputs[0] if batch.inputs else None
    if isinstance(found, torch.Tensor) and found.dtype in (torch.int64, torch.int32):
        return found
    return None


def _is_vocabulary(size: int, model: nn.Module, tokens: torch.Tensor | None) -> bool:
    # a language model's head is as wide as its embedding table; hidden states are not
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    known = tokens is None or not tokens.numel() or int(tokens.max()) < size
    return known and any(table.num_embeddings == size for table in tables)


def _takes_labels(batch: Batch, model: nn.Module) -> bool:
    if not isinstance(batch.inputs, Mapping) or "input_ids" not in batch.inputs:
        return False
    return "labels" in inspect.signature(model.forward).parameters


def reshaped(objective: Objective, output: Any, target: Any) -> tuple[str, ...]:
    """A word on ``(B, 1)`` against ``(B,)``: torch's own losses broadcast them to ``(B, B)``."""
    found = main_tensor(output)
    if not isinstance(objective, NamedObjective) or not isinstance(target, torch.Tensor):
        return ()
    if found is None or not target.is_floating_point() or found.shape == target.shape:
        return ()
    if found.numel() != target.numel():
        return ()
    return (
        f"TARGET RESHAPED: the output is {list(found.shape)} and the target {list(target.shape)}; "
        f"{objective.kind} is measured with the target in the output's shape. torch's own would "
        "broadcast them against each other and learn the mean: check your training code.",
    )


class ShapeOf:
    """The output's shape for a batch; the model is run once per distinct shape of inputs."""

    def __init__(self, model: nn.Module, batch: Batch, output: Any) -> None:
        self._model = model
        self._known: dict[tuple[Any, ...], torch.Size] = {_shapes(batch): _shape(output)}

    def __call__(self, batch: Batch) -> torch.Size:
        """The shape of the output's main tensor."""
        key = _shapes(batch)
        if key not in self._known:
            self._known[key] = _shape(run_once(self._model, batch))
        return self._known[key]


def _shape(output: Any) -> torch.Size:
    tensor = main_tensor(output)
    return torch.Size() if tensor is None else tensor.shape


def _shapes(batch: Batch) -> tuple[Any, ...]:
    return tuple((name, tuple(t.shape)) for name, t in batch_tensors(batch))
