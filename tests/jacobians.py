"""Slow float64 Jacobians of plain stacks of layers; shares no code with the package."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def chain_jacobians(layers: list[nn.Module], x: Tensor) -> list[Tensor]:
    """d output / d (input of layer l), for every l, as dense ``[n_out, n_l]`` float64 matrices.

    The batch is flattened into one vector, so layers that couple samples are covered too.
    """
    layers = [copy.deepcopy(layer).double() for layer in layers]
    tensors = [x.detach().double()]
    for layer in layers:
        tensors.append(layer(tensors[-1]).detach())
    jacobians: list[Tensor] = []
    total = torch.eye(tensors[-1].numel(), dtype=torch.float64)
    for layer, entering in zip(reversed(layers), reversed(tensors[:-1]), strict=True):
        local = torch.autograd.functional.jacobian(layer, entering, vectorize=True)
        total = total @ local.reshape(total.shape[1], entering.numel())
        jacobians.append(total)
    return jacobians[::-1]
