"""Layer-sequential unit variance: orthogonal weights, scaled so that each output has variance 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.records import Remedy
from gradaudit.remedies._code import MODEL, dict_literal, rounded
from gradaudit.subject import Opened, borrowed

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DRAWN = (torch.float32, torch.float64)  # torch has no QR decomposition in half precision

_CODE = """\
with torch.no_grad():
    for name, gain in GAIN.items():
        layer = model.get_submodule(name)
        nn.init.orthogonal_(layer.weight, gain=gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
"""


def lsuv(opened: Opened, seed: int) -> Remedy | None:
    """One remedy for the dense and convolution layers that the forward pass calls as modules.

    Mishkin and Matas 2016, arXiv 1511.06422, in a single pass: without bias a layer's output is
    divided by its own deviation before it goes on, and that division is the layer's gain. ``None``
    where there is no such layer, or an output that does not vary.
    """
    if opened.model is None or not opened.batches:
        return None
    gains: dict[str, float] = {}
    with borrowed(opened.model) as model, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        handles = [
            module.register_forward_hook(_normalise(name, gains), with_kwargs=True)
            for name, module in model.named_modules()
            if isinstance(module, _LAYERS) and _is_free(module)
        ]
        try:
            with torch.no_grad():
                opened.batches[0].run(model)
        finally:
            for handle in handles:
                handle.remove()
    found = {name: rounded(gain) for name, gain in gains.items()}
    if not found or not all(math.isfinite(gain) and gain > 0 for gain in found.values()):
        return None
    return Remedy(
        "lsuv",
        "initialization",
        f"Draw {len(found)} layers orthogonal, each scaled so that its output has variance 1 on "
        "your data (LSUV).",
        {"gain": found},
        "\n".join([MODEL, "import torch", "from torch import nn", "", dict_literal("GAIN", found)])
        + "\n"
        + _CODE,
        "changes start values",
        ("GA101", "GA102", "GA302"),
        sets=tuple(f"{name}.weight" for name in found),
    )


def _is_free(module: nn.Module) -> bool:
    """Whether the weight is a plain trainable parameter, of a type that torch draws orthogonal."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.requires_grad and weight.dtype in _DRAWN


def _normalise(name: str, gains: dict[str, float]) -> Any:
    def hook(module: Any, inputs: Any, keywords: Any, output: Tensor) -> Tensor:
        if name not in gains:
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            output = module.forward(*inputs, **keywords)
            deviation = float(output.double().std()) if output.numel() > 1 else 1.0
            gains[name] = 1.0 / deviation if deviation > 1e-12 else math.inf
            with torch.no_grad():
                module.weight.mul_(gains[name] if math.isfinite(gains[name]) else 1.0)
        return module.forward(*inputs, **keywords)

    return hook
