"""What a layer takes as its input, and whether a tensor fits it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

_TRANSPARENT = (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU)
_CONVOLUTIONS = {
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}


@dataclass(frozen=True)
class Expectation:
    """``features`` along ``axis`` of a floating tensor, or indices below ``indices``."""

    layer: str  # the module's path; "" for the model itself
    type: str
    features: int = 0
    axis: int = -1
    ranks: tuple[int, ...] = ()  # numbers of dimensions it takes; empty: any from 1
    indices: int | None = None  # an embedding's rows; None: floating values
    dtype: torch.dtype = torch.float32

    @property
    def place(self) -> str:
        """How messages name the layer: ``first layer '0' (Linear)``."""
        return f"first layer {self.layer!r} ({self.type})" if self.layer else f"model ({self.type})"

    @property
    def wanted(self) -> str:
        """What it takes, in words."""
        if self.indices is not None:
            return f"integer indices from 0 to {self.indices - 1}"
        where = "in the last dimension" if self.axis == -1 else f"in dimension {self.axis}"
        ranks = f" of {' or '.join(map(str, self.ranks))} dimensions" if self.ranks else ""
        return f"{self.dtype} values{ranks} with {self.features} {where}".replace("torch.", "")

    def fault(self, value: torch.Tensor) -> str | None:
        """What is wrong with ``value``, in words; ``None`` if it fits."""
        kind = str(value.dtype).removeprefix("torch.")
        if self.indices is not None:
            return self._index_fault(value, kind)
        if value.dtype != self.dtype:
            return f"{kind} values"
        shape = list(value.shape)
        if self.ranks and value.dim() not in self.ranks:
            return f"shape {shape}"
        if value.dim() < abs(self.axis) or shape[self.axis] != self.features:
            return f"shape {shape}"
        return None

    def _index_fault(self, value: torch.Tensor, kind: str) -> str | None:
        if value.dtype not in (torch.int64, torch.int32):
            return f"{kind} values"
        if self.indices is None or value.numel() == 0:
            return None
        low, high = int(value.min()), int(value.max())
        if low < 0 or high >= self.indices:
            return f"the index {low if low < 0 else high}"
        return None


def expectation(layer: nn.Module, name: str = "") -> Expectation | None:
    """What ``layer`` takes; ``None`` for a layer whose input is not fixed by its weights."""
    kind = type(layer).__name__
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return Expectation(name, kind, indices=layer.num_embeddings)
    parameter = next(layer.parameters(), None)
    if parameter is None or is_lazy(parameter) or not parameter.is_floating_point():
        return None
    dtype = parameter.dtype
    for convolution, d in _CONVOLUTIONS.items():
        if isinstance(layer, convolution):
            channels = int(vars(layer)["in_channels"])
            return Expectation(name, kind, channels, -(d + 1), (d + 1, d + 2), dtype=dtype)
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        ranks = (1, 2) if isinstance(layer, nn.RNNCellBase) else (2, 3)
        return Expectation(name, kind, layer.input_size, -1, ranks, dtype=dtype)
    features = _last_features(layer)
    return None if features is None else Expectation(name, kind, features, dtype=dtype)


def _last_features(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
        return int(layer.normalized_shape[0])
    if isinstance(layer, nn.TransformerEncoderLayer):
        return int(layer.self_attn.embed_dim)
    if isinstance(layer, nn.TransformerEncoder):
        return _last_features(layer.layers[0])
    return None


def certain_first(model: nn.Module) -> Expectation | None:
    """What the model's first layer takes where its input must be the model's own.

    That is so for a bare layer and down ``nn.Sequential``; any other forward may reshape first.
    """
    name, layer = "", model
    while type(layer) is nn.Sequential:
        solid = [
            (key, child)
            for key, child in layer.named_children()
            if not isinstance(child, _TRANSPARENT)
        ]
        if not solid:
            return None
        key, layer = solid[0]
        name = f"{name}.{key}" if name else key
    return expectation(layer, name) if _is_plain(layer) else None


def _is_plain(layer: nn.Module) -> bool:
    # a subclass with a forward of its own may do anything first
    return type(layer).__module__.startswith("torch.nn.modules")


def likely_first(model: nn.Module) -> tuple[nn.Module, str] | None:
    """The first layer in registration order that says what it takes, and its name."""
    for name, layer in model.named_modules():
        if expectation(layer, name) is not None and (_is_plain(layer) or not _children(layer)):
            return layer, name
    return None


def _children(layer: nn.Module) -> bool:
    return next(layer.children(), None) is not None
