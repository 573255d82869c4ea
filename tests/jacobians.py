"""Slow float64 Jacobians, one output entry at a time; shares no code with the package."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def stage_jacobians(stages: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> list[Tensor]:
    """d stage(h) / d h of every stage of a chain, as dense float64 ``[n_out, n_in]`` matrices.

    The batch is one vector, so that stages which couple samples are covered too. ``stages`` are
    modules or functions that take and return one tensor, already in float64.
    """
    jacobians, entering = [], x.detach().double()
    for stage in stages:
        local = entering.clone().requires_grad_()
        leaving = stage(local.clone())
        rows = [
            torch.autograd.grad(leaving, local, unit.view_as(leaving), retain_graph=True)[0]
            for unit in torch.eye(leaving.numel(), dtype=torch.float64)
        ]
        jacobians.append(torch.stack([row.flatten() for row in rows]))
        entering = leaving.detach()
    return jacobians


def in_float64(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies of the layers in float64."""
    return [copy.deepcopy(layer).double() for layer in layers]


def chain_jacobians(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """d output / d (input of layer l), for every l, as dense ``[n_out, n_l]`` float64 matrices."""
    return through_to_output(stage_jacobians(in_float64(layers), x))


def through_to_output(jacobians: Sequence[Tensor]) -> list[Tensor]:
    """Products of the stages' Jacobians from each stage's start to the output."""
    products = [jacobians[-1]]
    for jacobian in reversed(jacobians[:-1]):
        products.append(products[-1] @ jacobian)
    return products[::-1]
