"""Whether the loss reads early time steps directly, past the recurrence.

A layer that forgets harms nothing where every step's output is read (tagging, mean pooling, a loss
at each step). The real loss's gradient at the layer's input tells: it then reaches the early steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradaudit.probes.trace import l2_norm
from gradaudit.subject.opened import Opened


@dataclass(frozen=True)
class _Lifted:
    """Inputs of layers as they were first called, with gradients wanted."""

    inputs: dict[str, Tensor]
    sizes: dict[str, list[int]]  # rows at each step, of packed sequences

    def hook(self, name: str) -> Callable[..., Any]:
        """A pre-hook that hands the layer its input with a gradient wanted."""

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs.get("input")
            data = given.data if isinstance(given, PackedSequence) else given
            if name in self.inputs or not isinstance(data, Tensor):
                return None
            handed: Any = data if data.requires_grad else data.detach().requires_grad_()
            self.inputs[name] = handed
            if isinstance(given, PackedSequence):
                self.sizes[name] = given.batch_sizes.tolist()
                handed = given._replace(data=handed)
            return ((handed, *args[1:]), kwargs) if args else (args, {**kwargs, "input": handed})

        return hook


def loss_reach(opened: Opened, names: Iterable[str]) -> dict[tuple[str, str], float]:
    """log10 of d loss / d input at the far end over the largest, squared.

    By layer name and direction: the far end is the first step for ``"forward"``, the last for
    ``"backward"``; of a packed sequence, those of the longest. Only for ``nn.RNN``, ``nn.LSTM`` and
    ``nn.GRU`` whose loss depends on their input. Cost: one forward and backward pass. What the
    model or the loss raises passes through.
    """
    model, objective = opened.model, opened.objective
    assert model is not None
    layers = {n: m for n in names if isinstance(m := model.get_submodule(n), nn.RNNBase)}
    if objective is None or not layers:
        return {}
    lifted = _Lifted({}, {})
    handles = [
        m.register_forward_pre_hook(lifted.hook(n), with_kwargs=True) for n, m in layers.items()
    ]
    try:
        with torch.enable_grad():
            loss = objective(opened.batches[0].run(model), opened.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    if not loss.requires_grad or not lifted.inputs:
        return {}
    gradients = torch.autograd.grad(loss, list(lifted.inputs.values()), allow_unused=True)
    found: dict[tuple[str, str], float] = {}
    for name, gradient in zip(lifted.inputs, gradients, strict=True):
        if gradient is None:
            continue
        steps = _steps(gradient, layers[name], lifted.sizes.get(name))
        for direction, place in (("forward", 0), ("backward", -1)):
            ratio = _over_largest(steps, place)
            if ratio is not None:
                found[name, direction] = ratio
    return found


def _steps(gradient: Tensor, layer: nn.RNNBase, sizes: list[int] | None) -> list[float]:
    """Norm of the gradient at each step."""
    if sizes is not None:  # packed rows stand sorted: the longest sequences come first
        return [float(l2_norm(rows[: sizes[-1]])) for rows in gradient.split(sizes)]
    steps = gradient.movedim(1, 0) if layer.batch_first and gradient.dim() == 3 else gradient
    return [float(l2_norm(step)) for step in steps]


def _over_largest(norms: list[float], place: int) -> float | None:
    """``None`` where nothing, or nothing finite, arrives."""
    if not all(map(math.isfinite, norms)) or max(norms) == 0 or norms[place] == 0:
        return None
    return 2 * math.log10(norms[place] / max(norms))
