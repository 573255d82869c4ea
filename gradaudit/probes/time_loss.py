"""Whether the loss reads early time steps directly, past the recurrence.

A layer that forgets harms nothing where every step's output is read (tagging, mean pooling, a loss
at each step). The real loss's gradient at the layer's input tells: it then reaches the early steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.probes.trace import l2_norm
from gradaudit.subject.opened import Opened


def loss_reach(opened: Opened, names: Iterable[str]) -> dict[str, float]:
    """log10 of d loss / d input at the first step over the largest, squared, by layer name.

    Only for ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` whose input is a tensor and whose loss depends
    on it. Cost: one forward and backward pass. What the model or the loss raises passes through.
    """
    model, objective = opened.model, opened.objective
    assert model is not None
    layers = {n: m for n in names if isinstance(m := model.get_submodule(n), nn.RNNBase)}
    if objective is None or not layers:
        return {}
    inputs: dict[str, Tensor] = {}

    def lift(name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs.get("input")
            if name in inputs or not isinstance(given, Tensor):
                return None
            inputs[name] = given if given.requires_grad else given.detach().requires_grad_()
            if args:
                return (inputs[name], *args[1:]), kwargs
            return args, {**kwargs, "input": inputs[name]}

        return hook

    handles = [m.register_forward_pre_hook(lift(n), with_kwargs=True) for n, m in layers.items()]
    try:
        with torch.enable_grad():
            loss = objective(opened.batches[0].run(model), opened.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    if not loss.requires_grad or not inputs:
        return {}
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    found = {}
    for name, gradient in zip(inputs, gradients, strict=True):
        ratio = None if gradient is None else _first_over_largest(gradient, layers[name])
        if ratio is not None:
            found[name] = ratio
    return found


def _first_over_largest(gradient: Tensor, layer: nn.RNNBase) -> float | None:
    """``None`` where nothing, or nothing finite, arrives."""
    steps = gradient.movedim(1, 0) if layer.batch_first and gradient.dim() == 3 else gradient
    norms = [float(l2_norm(step)) for step in steps]
    if not all(map(math.isfinite, norms)) or max(norms) == 0 or norms[0] == 0:
        return None
    return 2 * math.log10(norms[0] / max(norms))
