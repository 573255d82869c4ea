"""Batch norm folded into the weight before it, as it acts at evaluation.

With running mean ``m`` and variance ``v``, batch norm is the affine map ``(x - m) g / sqrt(v + eps)
+ b``, so a convolution or dense layer with batch norm behind it is one linear map whose outputs are
scaled by ``g / sqrt(v + eps)``, and that map's norm is what the network multiplies by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from gradaudit.probes.weight_sites import Site
from gradaudit.probes.weights_as_used import as_used


@dataclass(frozen=True)
class Fold:
    """The batch norm behind one weight: its module and its scale per channel, in float64."""

    module: str
    scale: Tensor

    @property
    def factor(self) -> float | None:
        """The one factor where all channels have the same, as fresh statistics give."""
        first = float(self.scale[0])
        return first if bool((self.scale == first).all()) else None

    @property
    def finite(self) -> bool:
        """Whether statistics and scale are numbers; a running variance below ``-eps`` is none."""
        return bool(torch.isfinite(self.scale).all())


def batch_norm_folds(model: nn.Module) -> dict[str, Fold]:
    """What each batch norm of ``model`` with running statistics does at evaluation, by its name.

    To be taken before anything runs the model in training mode, which moves the statistics.
    """
    folds = {}
    for name, module in model.named_modules():
        variance = module.running_var if isinstance(module, _BatchNorm) else None
        if variance is None or is_lazy(variance) or not variance.numel():
            continue
        scale = (variance.detach().double() + module.eps).rsqrt()
        weight = dict(as_used(module)).get("weight")
        if isinstance(weight, Tensor):
            scale = scale * weight.detach().double()
        folds[name] = Fold(name, scale)
    return folds


def fits(found: Fold, site: Site) -> bool:
    """Whether the fold scales the outputs of this weight."""
    own = site.parameter.rpartition(".")[2] == "weight" and site.kind in ("dense", "convolution")
    return own and found.scale.numel() == _outputs(site)


def fold(tensor: Tensor, site: Site, scale: Tensor) -> Tensor:
    """``tensor`` with its outputs times ``scale`` (outputs,), in ``tensor``'s own precision."""
    wide = scale.to(tensor)
    if site.geometry is not None and site.geometry.transposed:
        groups = site.geometry.groups
        blocks = tensor.reshape(groups, -1, *tensor.shape[1:])  # (groups, in, out / groups, *taps)
        shape = (groups, 1, tensor.shape[1]) + (1,) * (tensor.ndim - 2)
        return (blocks * wide.reshape(shape)).reshape(tensor.shape)
    if site.inputs_first:
        return tensor * wide
    return tensor * wide.reshape(-1, *(1,) * (tensor.ndim - 1))


def _outputs(site: Site) -> int:
    if site.geometry is not None and site.geometry.transposed:
        return site.tensor.shape[1] * site.geometry.groups
    return site.tensor.shape[1 if site.inputs_first else 0]
