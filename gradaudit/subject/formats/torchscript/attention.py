"""Attention of torch's own in a TorchScript file, made again and held against the file's code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gradaudit.subject.formats.torchscript.modules import Scripted, Standing

_PLACE = "torch.nn.modules.activation.MultiheadAttention"
_SETTINGS = ("embed_dim", "num_heads", "dropout", "add_zero_attn", "kdim", "vdim")
_TOLERANCE = 1e-5


def attention_layer(module: Scripted) -> nn.MultiheadAttention | None:
    """``nn.MultiheadAttention`` with the module's tensors, if it computes the same."""
    if module.script.place != _PLACE or not set(_SETTINGS) <= set(module.values):
        return None
    try:
        layer = _made(module)
        return layer if layer is not None and _same(module, layer) else None
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, AssertionError):
        return None


def _made(module: Scripted) -> nn.MultiheadAttention | None:
    out = module._modules["out_proj"]
    with torch.device("meta"):
        layer = nn.MultiheadAttention(
            *(module.values[name] for name in _SETTINGS[:2]),
            dropout=module.values["dropout"],
            bias=module._parameters.get("in_proj_bias") is not None,
            add_bias_kv=module._parameters.get("bias_k") is not None,
            add_zero_attn=module.values["add_zero_attn"],
            kdim=module.values["kdim"],
            vdim=module.values["vdim"],
            batch_first=module.script.constants.get("batch_first") is True,
        )
    if out is None or {k for k, p in layer._parameters.items() if p is not None} != {
        k for k, p in module._parameters.items() if p is not None
    }:
        return None
    for name in layer._parameters:
        layer._parameters[name] = module._parameters.get(name)
    layer.out_proj._parameters.update(out._parameters)
    if isinstance(out, Scripted):
        layer.out_proj.__dict__["standing"] = Standing(out.script)
    else:
        layer.out_proj.__dict__["standing"] = out.__dict__["standing"]
    return layer


def _same(module: Scripted, layer: nn.MultiheadAttention) -> bool:
    """Whether both give the same on a small sample, dropout off."""
    modes = module.training
    sample = next(layer.parameters())
    generator = torch.Generator().manual_seed(0)

    def drawn(size: int) -> torch.Tensor:
        return torch.randn(2, 3, size, generator=generator).to(sample.device, sample.dtype)

    given = [drawn(layer.embed_dim), drawn(int(layer.kdim or 0)), drawn(int(layer.vdim or 0))]
    module.eval(), layer.eval()
    try:
        with torch.no_grad():
            pairs: list[tuple[Any, Any]] = list(zip(module(*given), layer(*given), strict=True))
        return all(torch.allclose(a, b, atol=_TOLERANCE) for a, b in pairs)
    finally:
        module.train(modes), layer.train(modes)
