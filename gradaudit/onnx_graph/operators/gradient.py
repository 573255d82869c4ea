"""The derivative as an operator of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradaudit.onnx_graph.registry import operator


@operator("Gradient", domain="ai.onnx.preview.training")
def gradient(
    *inputs: Tensor,
    body: Callable[..., tuple[Tensor, ...]],
    xs: Sequence[str],
    y: str,
    zs: Sequence[str] = (),
) -> tuple[Tensor, ...]:
    """``d y / d xs`` at ``inputs``, the values of ``xs`` and then ``zs``; differentiable again."""
    with torch.enable_grad():
        given = [x if x.requires_grad else x.detach().requires_grad_() for x in inputs]
        (value,) = body(*given)
        found = torch.autograd.grad(value.sum(), given[: len(xs)], create_graph=True)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return tuple(each if wanted else each.detach() for each in found)
