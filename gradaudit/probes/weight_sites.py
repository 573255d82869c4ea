"""Where a model's weights are, and as what each one is used: the input of the weight probes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from gradaudit.records import NotMeasured

Weights = nn.Module | Mapping[str, Tensor]

_RECURRENT = re.compile(r"(^|[._])weight_(ih|hh|hr)")
_EMBEDDING = re.compile(r"(^|[._])(\w*emb(ed\w*)?|wte|wpe)([._]|$)", re.IGNORECASE)
_REPARAMETRIZED = re.compile(r"(^|\.)(parametrizations\..*|weight_(orig|g|v))$")
_RUNNING = re.compile(r"(^|\.)(_u|_v|weight_u|weight_v|running_mean|running_var)$")
_MAX_TAPS = 64  # more entries than this along a "kernel" dimension are no convolution kernel
_RESHAPED_BY_HOOK = ("weight_orig", "weight_g", "weight_v")


@dataclass(frozen=True)
class Geometry:
    """How a convolution module moves its kernel; ``padding`` is (before, after) per dimension."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    mode: str
    transposed: bool = False
    output_padding: tuple[int, ...] = ()


@dataclass(frozen=True)
class Site:
    """One weight at its place; ``inputs_first`` where the tensor is stored (in, out)."""

    parameter: str
    module: str
    kind: str  # as in WeightRow
    type: str
    tensor: Tensor
    inputs_first: bool = False
    geometry: Geometry | None = None
    elementwise: bool = False  # a scale per entry, as of a normalisation layer


def find_weights(source: Weights) -> tuple[list[Site], list[NotMeasured]]:
    """Every weight of a live model, or of tensors by name, once; and those that cannot be used.

    A weight is a floating tensor of two or more dimensions. From a model it is taken as the forward
    pass would see it, so through its parametrizations, evaluated on a copy. Tied weights (the same
    storage) appear under the first name only.
    """
    live = isinstance(source, nn.Module)
    found = _from_model(source) if isinstance(source, nn.Module) else _from_names(source)
    sites: list[Site] = []
    skipped: list[NotMeasured] = []
    seen: set[tuple[object, ...]] = set()
    for item in found:
        if isinstance(item, NotMeasured):
            skipped.append(item)
            continue
        why = _unusable(item.tensor)
        if why and (live or item.tensor.is_floating_point()):
            skipped.append(NotMeasured("spectral norm", item.parameter, why))
        if why or item.tensor.ndim < 2:
            continue
        key = _identity(item.tensor)
        if key not in seen:
            seen.add(key)
            sites.append(item)
    return sites, skipped


def vectors(source: Weights) -> Iterator[tuple[str, Tensor]]:
    """Parameters of one dimension by name: biases and the scales of normalisation layers."""
    named = source.named_parameters() if isinstance(source, nn.Module) else source.items()
    for name, tensor in named:
        state = _RUNNING.search(name) is not None
        if not state and isinstance(tensor, Tensor) and not _unusable(tensor) and tensor.ndim == 1:
            yield name, tensor.detach()


def _unusable(tensor: Tensor) -> str:
    """Why no norm can be taken of ``tensor``; empty if one can."""
    if isinstance(tensor, UninitializedParameter):
        return "a lazy parameter that has no shape before the first forward pass"
    if tensor.device.type == "meta":
        return "on the meta device: it has no values"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "sparse or quantized storage; convert the model to dense floating point to measure"
    if not tensor.is_floating_point():
        return f"of type {str(tensor.dtype).removeprefix('torch.')}, not floating point"
    return "" if tensor.numel() else "it has no entries"


def _identity(tensor: Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.numel(), tensor.dtype


def _from_names(tensors: Mapping[str, Tensor]) -> Iterator[Site | NotMeasured]:
    """Weights of a bag of tensors, whose use has to be told from names and shapes."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.ndim < 2:
            continue
        if _REPARAMETRIZED.search(name):
            why = "stored reparametrized; with the model's code (--build) it is measured as used"
            yield NotMeasured("spectral norm", name, why)
            continue
        module, _, leaf = name.rpartition(".")
        bias = tensors.get(f"{module}.bias" if module else "bias")
        kind = _kind_by_name(name, leaf, tensor)
        yield Site(name, module, kind, "", tensor.detach(), _stored_inputs_first(tensor, bias))


def _stored_inputs_first(tensor: Tensor, bias: object) -> bool:
    """A dense weight whose bias has as many entries as the weight has columns, not rows."""
    if tensor.ndim != 2 or not isinstance(bias, Tensor) or bias.ndim != 1:
        return False
    rows, columns = tensor.shape
    return bias.shape[0] == columns != rows


def _kind_by_name(name: str, leaf: str, tensor: Tensor) -> str:
    if _RECURRENT.search(name):
        return "recurrent"
    if _EMBEDDING.search(name):
        return "embedding"
    if tensor.ndim == 2:
        return "dense"
    kernel = tensor.ndim <= 5 and leaf in ("weight", "kernel") and max(tensor.shape[2:]) < _MAX_TAPS
    return "convolution" if kernel else "other"


def _from_model(model: nn.Module) -> Iterator[Site | NotMeasured]:
    for path, module in model.named_modules():
        if "parametrizations" in path.split("."):
            continue
        for leaf, tensor in _as_used(module):
            name = f"{path}.{leaf}" if path else leaf
            if isinstance(tensor, Exception):
                why = f"its parametrization raised {type(tensor).__name__}: {tensor}"
                yield NotMeasured("spectral norm", name, why)
            elif isinstance(tensor, UninitializedParameter):
                yield Site(name, path, "other", type(module).__name__, tensor)
            elif tensor.ndim >= 2:
                yield _site(name, path, leaf, module, tensor.detach())


def _as_used(module: nn.Module) -> Iterator[tuple[str, Tensor | Exception]]:
    """The module's own tensors by attribute, reparametrized ones as the next forward sees them.

    A parametrization may have state and move it (spectral norm's power iteration), so a copy is
    run, with the random state put back.
    """
    own = dict(module.named_parameters(recurse=False))
    for leaf, parameter in own.items():
        if leaf not in _RESHAPED_BY_HOOK:
            yield leaf, parameter
    if any(leaf in own for leaf in _RESHAPED_BY_HOOK):
        hooked = getattr(module, "weight", None)
        if isinstance(hooked, Tensor):
            yield "weight", hooked
    if parametrize.is_parametrized(module):
        for leaf, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
            yield leaf, _evaluated(chain)


def _evaluated(chain: nn.Module) -> Tensor | Exception:
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return copy.deepcopy(chain)()
    except Exception as error:  # the parametrization is the user's code
        return error


def _site(name: str, path: str, leaf: str, module: nn.Module, tensor: Tensor) -> Site:
    type_name = str(getattr(module, "original_name", type(module).__name__))
    kind, geometry, inputs_first, elementwise = "other", None, False, False
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        kind = "embedding"
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        kind = "recurrent"
    elif isinstance(module, nn.modules.conv._ConvNd):
        kind, geometry = "convolution", _geometry(module)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        elementwise = True
    elif isinstance(module, nn.Linear) and leaf == "weight":
        kind = "dense"
    elif not isinstance(module, nn.Bilinear):
        kind = _kind_by_name(name if "mbed" not in type_name else "embedding", leaf, tensor)
        inputs_first = kind == "dense" and type_name == "Conv1D"  # transformers' dense layer
    return Site(name, path, kind, type_name, tensor, inputs_first, geometry, elementwise)


def _geometry(module: nn.modules.conv._ConvNd) -> Geometry:
    taps, dilation = module.kernel_size, module.dilation
    if module.padding == "same":
        totals = [d * (k - 1) for k, d in zip(taps, dilation, strict=True)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    elif isinstance(module.padding, str):
        padding = tuple((0, 0) for _ in taps)
    else:
        padding = tuple((p, p) for p in module.padding)
    return Geometry(
        tuple(module.stride),
        padding,
        tuple(dilation),
        module.groups,
        module.padding_mode,
        module.transposed,
        tuple(module.output_padding),
    )
