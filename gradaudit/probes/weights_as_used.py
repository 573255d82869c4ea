"""A module's tensors as its next forward pass sees them, through whatever reparametrizes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def class_name(module: nn.Module) -> str:
    """The name of the module's class as its author wrote it, not of what torch made of it."""
    written = parametrize.type_before_parametrizations(module).__name__
    return str(getattr(module, "original_name", written))


def as_used(module: nn.Module) -> Iterator[tuple[str, Tensor | Exception]]:
    """The module's own tensors by attribute, reparametrized ones as the next forward sees them.

    Those of a layer in another layout by the names torch's own layer has for them.

    A parametrization may have state and move it (spectral norm's power iteration), so a copy is
    run, with the random state put back. The exception where it raised one.
    """
    as_torch = getattr(module, "as_torch", None)
    if as_torch is not None:
        yield from as_torch().items()
        return
    hooked = {hook_target(hook): hook for hook in module._forward_pre_hooks.values()}
    hooked.pop("", None)
    for leaf, parameter in module.named_parameters(recurse=False):
        if leaf.removesuffix("_orig").removesuffix("_g").removesuffix("_v") not in hooked:
            yield leaf, parameter
    for leaf, hook in hooked.items():
        yield leaf, _by_hook(hook, leaf, module)
    for leaf, chain in chains_of(module).items():
        yield leaf, _evaluated(chain)


def chains_of(module: nn.Module) -> dict[str, nn.Module]:
    """The module's parametrizations by the attribute each one computes."""
    if not parametrize.is_parametrized(module):
        return {}
    return dict(module.parametrizations.items())  # type: ignore[union-attr, operator]


def hook_target(hook: object) -> str:
    """The attribute that one of torch's own reparametrizing forward hooks sets; else empty."""
    if isinstance(hook, SpectralNorm | WeightNorm):
        return hook.name
    return str(hook._tensor_name) if isinstance(hook, BasePruningMethod) else ""


def _by_hook(hook: object, leaf: str, module: nn.Module) -> Tensor | Exception:
    """What ``hook`` would set ``leaf`` to. The attribute itself is the last forward's, or the plain
    weight before the first one: under an old-style spectral norm in eval mode, whose vectors are
    random until the first training step, the two differ by orders of magnitude.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            if isinstance(hook, BasePruningMethod):
                return hook.apply_mask(module)
            if isinstance(hook, WeightNorm):
                return hook.compute_weight(module)
            assert isinstance(hook, SpectralNorm)
            stand_in = nn.Module()
            for name in (f"{leaf}_orig", f"{leaf}_u", f"{leaf}_v"):
                stand_in.register_buffer(name, getattr(module, name).detach().clone())
            return hook.compute_weight(stand_in, do_power_iteration=module.training)
    except Exception as error:  # a hook whose tensors the user has moved or removed
        return error


def _evaluated(chain: nn.Module) -> Tensor | Exception:
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return copy.deepcopy(chain)()
    except Exception as error:  # the parametrization is the user's code
        return error
