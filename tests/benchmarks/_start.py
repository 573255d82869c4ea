"""The start of a recipe's training, for tools that look at it: its first steps, and a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus import training
from tests.corpus.case import Case, Pair


class Run:
    """The first steps of one training, each taken as ``tests.corpus.training`` takes it."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        self.case, self.model, self.taken = case, case.model(seed).train(), 0
        torch.manual_seed(seed + 100)
        self.optimizer = training._optimizer(self.model, case.recipe, {})
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        precision = case.recipe.precision or ""
        halves = training._HALF.values()
        pure = any(parameter.dtype in halves for parameter in self.model.parameters())
        self.half = None if pure else training._HALF.get(precision)
        mixed = precision == "fp16" and not pure
        self.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0) if mixed else None

    def loss(self, batch: Pair) -> Tensor:
        inputs, target = batch
        context: AbstractContextManager[Any] = nullcontext()
        if self.half is not None:
            context = torch.autocast("cpu", dtype=self.half)
        with context:
            return measure(self.case, training._call(self.model, inputs), target)

    def step(self, batch: Pair) -> float:
        """Loss before the step, which is not taken where that is not finite."""
        share = training._shares(self.case.recipe, {})(self.taken)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        if math.isfinite(shown := float(loss.detach())):
            clip = self.case.recipe.clip_norm
            training._step(self.model, self.optimizer, self.scaler, loss, clip)
            self.taken += 1
        return shown


def measure(case: Case, output: Any, target: Any) -> Tensor:
    """The loss that training follows."""
    loss: Tensor = training._losses(case, output, target, None)[0]
    return loss


@dataclass(frozen=True)
class Probe:
    """What can be seen of the start: one backward pass, and the recipe's first step after it.

    Weights are the trainable parameters with two dimensions or more. With a warm-up, the first
    step is as small as the recipe makes it. Activations are those of modules, not of functions.
    """

    loss: float
    gradients: Mapping[str, Tensor]  # of all that is trained; neither scaled nor clipped
    weights: Mapping[str, Tensor]
    updates: Mapping[str, Tensor]  # of the weights
    tables: frozenset[str]  # the weights of embeddings
    flow: tuple[float, ...]  # norms of the loss's gradient by the output of each layer, in order
    rectified: tuple[Tensor, ...]  # outputs of the ReLUs: (everything else, units)
    squashed: tuple[Tensor, ...]  # inputs of the tanhs

    @property
    def finite(self) -> bool:
        found = (bool(gradient.isfinite().all()) for gradient in self.gradients.values())
        return math.isfinite(self.loss) and all(found)

    @property
    def norm(self) -> float:
        return math.hypot(*(float(gradient.norm()) for gradient in self.gradients.values()))

    def sizes(self) -> list[float]:
        """Mean absolute gradient of each weight."""
        return [float(self.gradients[name].abs().mean()) for name in self.weights]

    def ratios(self, p: int = 2, least: float = 0.0) -> list[float]:
        """Norm of the update in units of the weight's, where there is a weight."""
        pairs = [
            (float(self.updates[name].norm(p)), float(weight.norm(p)) + least)
            for name, weight in self.weights.items()
        ]
        return [update / weight for update, weight in pairs if weight > 0]


@lru_cache(maxsize=1)
def probe(case: Case) -> Probe:
    """The record that all thresholds are put to."""
    run, batch = Run(case), case.sample()[0]
    flow: dict[str, float] = {}
    rectified: list[Tensor] = []
    squashed: list[Tensor] = []

    def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        learns = any(parameter.requires_grad for parameter in module.parameters())
        if learns and isinstance(first, Tensor) and first.requires_grad:
            flow.setdefault(name, 0.0)
            first.register_hook(lambda gradient: flow.update({name: float(gradient.norm())}))
        if isinstance(module, nn.ReLU):
            rectified.append(_by_unit(output))
        if isinstance(module, nn.Tanh):
            squashed.append(_by_unit(inputs[0]))

    leaves = [(name, m) for name, m in run.model.named_modules() if not list(m.children())]
    hooks = [m.register_forward_hook(partial(watch, name)) for name, m in leaves]
    loss = run.loss(batch)
    loss.backward()
    for hook in hooks:
        hook.remove()
    trained = {name: p for name, p in run.model.named_parameters() if p.requires_grad}
    weights = {name: _copy(p) for name, p in trained.items() if p.dim() > 1}
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained.items()}
    gradients = {name: _copy(gradient) for name, gradient in gradients.items()}
    run.step(batch)
    return Probe(
        float(loss.detach()),
        gradients,
        weights,
        {name: _copy(trained[name]) - weight for name, weight in weights.items()},
        frozenset(f"{n}.weight" for n, m in leaves if isinstance(m, nn.Embedding)),
        tuple(flow.values()),
        tuple(rectified),
        tuple(squashed),
    )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32, copy=True)


def _by_unit(tensor: Tensor) -> Tensor:
    """Channels of images, else the last dimension, come last; all else is one dimension."""
    copied = _copy(tensor)
    copied = copied.movedim(1, -1) if copied.dim() == 4 else copied
    return copied.reshape(-1, copied.shape[-1])
