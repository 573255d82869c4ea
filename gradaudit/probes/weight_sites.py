"""Where a model's weights are, and as what each one is used: the input of the weight probes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gradaudit.probes.recurrent_gates import part_names
from gradaudit.probes.weights_as_used import as_used, chains_of, class_name
from gradaudit.records import NotMeasured
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights
from gradaudit.subject.places import borrowed, lent, places

Weights = nn.Module | Mapping[str, Tensor]

_RECURRENT = re.compile(r"(^|[._])weight_(ih|hh|hr)")
_EMBEDDING = re.compile(r"(^|_)(\w*emb(ed\w*)?|wte|wpe)(_|$)", re.IGNORECASE)
_REPARAMETRIZED = re.compile(r"(^|\.)(parametrizations\..*|weight_(orig|g|v))$")
_RUNNING = re.compile(r"(^|\.)(_u|_v|weight_u|weight_v|running_mean|running_var)$")
_MAX_TAPS = 64  # more entries than this along a "kernel" dimension are no convolution kernel


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
    parts: tuple[str, ...] = ()  # names of its stacked blocks of rows: gates, or query, key, value
    row_limit: tuple[float, float] | None = None  # an embedding's max_norm, and the norm it is of
    chain: nn.Module | None = None  # the parametrizations it was computed by
    leaf: str = ""  # the attribute it is, by torch's name
    elsewhere: bool = False  # its name lies elsewhere than its module
    bias: str = ""  # then: the name of the module's bias
    stored: StoredTensor | None = None  # where ``tensor`` only declares one that lies in a file

    def values(self) -> Tensor:
        """The tensor with its values; from a file each time anew."""
        return self.tensor if self.stored is None else self.stored.read()


def find_weights(source: Weights) -> tuple[list[Site], list[NotMeasured]]:
    """Every weight of a live model, or of tensors by name, once; and those that cannot be used.

    A weight is a floating tensor of two or more dimensions. From a model it is taken as the forward
    pass would see it, so through its parametrizations, evaluated on a copy. Tied weights (the same
    storage, or the same parametrizations) appear under the first name only.
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
        why = unusable(item.tensor, stored=item.stored is not None)
        if why and (live or item.tensor.is_floating_point()):
            skipped.append(NotMeasured("spectral norm", item.parameter, why))
        if why or item.tensor.ndim < 2:
            continue
        key = _identity(item)
        if key not in seen:
            seen.add(key)
            sites.append(item)
    return sites, skipped


def vectors(source: Weights) -> Iterator[tuple[str, str, Tensor]]:
    """Parameters of one dimension: biases and the scales of normalisation layers.

    Each by its name and the path of its module; from a file one at a time.
    """
    if isinstance(source, nn.Module):
        for name, module, leaf, tensor in _own_tensors(source):
            if is_vector(leaf, tensor):
                yield name, module, tensor.detach()
        return
    bag = source if isinstance(source, StoredWeights) else None
    for name in source:
        module, _, leaf = name.rpartition(".")
        stored = bag is not None and bag.entry(name).value is None
        if is_vector(leaf, bag.declared(name) if bag is not None else source[name], stored=stored):
            yield name, module, source[name].detach()


def is_vector(leaf: str, tensor: object, *, stored: bool = False) -> bool:
    """Whether the tensor called ``leaf`` is one of :func:`vectors`."""
    return (
        isinstance(tensor, Tensor)
        and tensor.ndim == 1
        and _RUNNING.search(leaf) is None
        and not unusable(tensor, stored=stored)
    )


def _own_tensors(model: nn.Module) -> list[tuple[str, str, str, Tensor]]:
    """Each parameter once, by its name, the module that uses it first, and its attribute there."""
    found = {
        p.name: (p.name, p.module, p.leaf, p.parameter.data) for p in reversed([*places(model)])
    }
    parts = [
        (borrowed(module).get(leaf, leaf), path, leaf, tensor.detach())
        for path, module in model.named_modules()
        for leaf, tensor in (module.as_torch() if hasattr(module, "as_torch") else {}).items()
    ]
    return [*reversed(found.values()), *parts]


def unusable(tensor: Tensor, *, stored: bool = False) -> str:
    """Why no norm can be taken of ``tensor``; empty if one can. ``stored``: it declares one."""
    if isinstance(tensor, UninitializedParameter):
        return "a lazy parameter that has no shape before the first forward pass"
    if tensor.device.type == "meta" and not stored:
        return "on the meta device: it has no values"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "sparse or quantized storage; convert the model to dense floating point to measure"
    if not tensor.is_floating_point():
        return f"of type {str(tensor.dtype).removeprefix('torch.')}, not floating point"
    return "" if tensor.numel() else "it has no entries"


def _identity(site: Site) -> tuple[object, ...]:
    if site.chain is not None:  # each evaluation gives a tensor of its own
        return (site.chain,)
    if site.stored is not None:
        return (site.stored.storage,)
    tensor = site.tensor
    return tensor.device, tensor.data_ptr(), tensor.numel(), tensor.dtype


def _from_names(tensors: Mapping[str, Tensor]) -> Iterator[Site | NotMeasured]:
    """Weights of a bag of tensors, whose use has to be told from names and shapes.

    Of tensors in a file only what is declared is looked at.
    """
    bag = tensors if isinstance(tensors, StoredWeights) else None
    tensors = tensors if bag is None else {name: bag.declared(name) for name in bag}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.ndim < 2:
            continue
        if _REPARAMETRIZED.search(name):
            why = "stored reparametrized; with the model's code (--build) it is measured as used"
            yield NotMeasured("spectral norm", name, why)
            continue
        module, _, leaf = name.rpartition(".")
        bias = tensors.get(f"{module}.bias" if module else "bias")
        biased = leaf == "weight" and bias is not None
        kind = _kind_by_name(module, leaf, tensor, biased=biased)
        inputs_first = _stored_inputs_first(tensor, bias)
        parts = _parts_by_name(module, leaf, tensors) if tensor.ndim == 2 else ()
        entry = bag.entry(name) if bag is not None else None
        stored = entry if entry is not None and entry.value is None else None
        yield Site(
            name, module, kind, "", tensor.detach(), inputs_first, parts=parts, stored=stored
        )


def _parts_by_name(module: str, leaf: str, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    prefix = f"{module}." if module else ""
    places = ("weight_ih", "weight_hh", "weight_hr")
    names = {leaf, *(re.sub("weight_(ih|hh)", place, leaf) for place in places)}
    found = {name: tensors[prefix + name] for name in names if prefix + name in tensors}
    return part_names(leaf, found, None)


def _stored_inputs_first(tensor: Tensor, bias: object) -> bool:
    """A dense weight whose bias has as many entries as the weight has columns, not rows."""
    if tensor.ndim != 2 or not isinstance(bias, Tensor) or bias.ndim != 1:
        return False
    rows, columns = tensor.shape
    return bias.shape[0] == columns != rows


def _kind_by_name(module: str, leaf: str, tensor: Tensor, *, biased: bool) -> str:
    if _RECURRENT.search(leaf):
        return "recurrent"
    # A table is named by its owner (or its list's owner) or itself; a projection may lie deeper.
    owner = next((part for part in reversed(module.split(".")) if not part.isdigit()), "")
    if not biased and _is_table(tensor) and (_EMBEDDING.search(owner) or _EMBEDDING.search(leaf)):
        return "embedding"
    if tensor.ndim == 2:
        return "dense"
    kernel = tensor.ndim <= 5 and leaf in ("weight", "kernel") and max(tensor.shape[2:]) < _MAX_TAPS
    return "convolution" if kernel else "other"


def _is_table(tensor: Tensor) -> bool:
    """Rows of numbers, possibly with a leading axis to broadcast over the batch."""
    return tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] == 1)


def _from_model(model: nn.Module) -> Iterator[Site | NotMeasured]:
    away = lent(model)
    for path, module in model.named_modules():
        if "parametrizations" in path.split("."):
            continue
        used = list(as_used(module))
        siblings = {leaf: t for leaf, t in used if isinstance(t, Tensor)}
        chains, elsewhere = chains_of(module), borrowed(module)
        for leaf, tensor in used:
            here = f"{path}.{leaf}" if path else leaf
            name = elsewhere.get(leaf, here)
            if here in away and leaf not in elsewhere:
                continue
            if isinstance(tensor, Exception):
                why = f"its parametrization raised {type(tensor).__name__}: {tensor}"
                yield NotMeasured("spectral norm", name, why)
            elif isinstance(tensor, UninitializedParameter):
                yield Site(name, path, "other", class_name(module), tensor)
            elif tensor.ndim >= 2:
                told = name.rpartition(".")[2] if leaf in elsewhere else leaf
                site = _site(name, path, told, module, tensor.detach())
                parts = part_names(leaf, siblings, module) if tensor.ndim == 2 else ()
                bias = elsewhere.get("bias", "")
                site = replace(site, elsewhere=leaf in elsewhere, bias=bias)
                yield replace(site, parts=parts, chain=chains.get(leaf), leaf=leaf)


def _site(name: str, path: str, leaf: str, module: nn.Module, tensor: Tensor) -> Site:
    type_name = class_name(module)
    kind, geometry, inputs_first, elementwise, limit = "other", None, False, False, None
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        kind = "embedding"
        if module.max_norm is not None:
            limit = (module.max_norm, module.norm_type)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        kind = "recurrent"
    elif isinstance(module, nn.modules.conv._ConvNd):
        kind, geometry = "convolution", _geometry(module)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        elementwise = True
    elif isinstance(module, nn.Linear) and leaf == "weight":
        kind = "dense"
    elif not isinstance(module, nn.Bilinear):
        owner = path if "mbed" not in type_name else "embedding"
        biased = leaf == "weight" and getattr(module, "bias", None) is not None
        kind = _kind_by_name(owner, leaf, tensor, biased=biased)
        if kind == "convolution":  # the module is none, whatever the shape looks like
            kind = "other"
        inputs_first = kind == "dense" and stores_inputs_first(module)
    return Site(
        name, path, kind, type_name, tensor, inputs_first, geometry, elementwise, row_limit=limit
    )


def stores_inputs_first(module: nn.Module) -> bool:
    """Whether a dense layer's weight is (inputs, outputs): transformers' Conv1D, ONNX's MatMul."""
    own = getattr(module, "inputs_first", False) is True
    return own or (class_name(module) == "Conv1D" and not isinstance(module, nn.Conv1d))


def _geometry(module: nn.modules.conv._ConvNd) -> Geometry:
    taps, dilation = module.kernel_size, module.dilation
    if module.padding == "same":
        totals = [d * (k - 1) for k, d in zip(taps, dilation, strict=True)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    elif isinstance(module.padding, str):
        padding = tuple((0, 0) for _ in taps)
    else:
        uneven = getattr(module, "uneven_padding", None)  # an ONNX convolution's
        padding = uneven or tuple((p, p) for p in module.padding)
    return Geometry(
        tuple(module.stride),
        padding,
        tuple(dilation),
        module.groups,
        module.padding_mode,
        module.transposed,
        tuple(module.output_padding),
    )
