"""Samples where there are none: ``--input`` specifications, and what the first layer takes."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable

import torch
from torch import nn

from gradaudit.errors import UsageError
from gradaudit.subject.declared_inputs import declared_by, declared_guesses
from gradaudit.subject.drawn import LARGEST, Drawn
from gradaudit.subject.expect import likely_first
from gradaudit.subject.pretrained_inputs import is_pretrained, pretrained_guesses

_PART = re.compile(r"\s*(\w+)\s*\[([\d,\s]*)\]\s*(?:<\s*([\d_]+))?\s*")
_DTYPES = {
    name: getattr(torch, name)
    for name in [
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int32",
        "int64",
        "uint8",
        "bool",
        "complex64",
    ]
}
_IMAGE_SIDES = (32, 64, 28, 224)


def parse_input_spec(spec: str) -> tuple[Drawn, ...]:
    """``float32[8,3,224,224]``, ``int64[8,128]<50257``; several joined by ``;`` or ``,``.

    Raises ``UsageError`` that quotes the part it cannot read.
    """
    parts = [part for part in re.split(r";|,(?![^\[]*\])", spec) if part.strip()]
    if not parts:
        raise UsageError("--input is empty", expected="such as float32[8,3,224,224]")
    return tuple(_parse_part(part) for part in parts)


def _parse_part(part: str) -> Drawn:
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(
            f"--input {part.strip()!r} cannot be read",
            expected="dtype[sizes], such as float32[8,3,224,224] or int64[8,128]<50257",
        )
    name, sizes, limit = match.groups()
    if name not in _DTYPES:
        raise UsageError(
            f"--input {part.strip()!r} has an unknown dtype", expected=", ".join(_DTYPES)
        )
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    count = 1
    for size in shape:
        count *= size
    if not shape or count == 0 or count > LARGEST:
        raise UsageError(
            f"--input {part.strip()!r} has {count if shape else 'no'} elements",
            expected=f"1 to {LARGEST:,}, the batch first",
        )
    dtype = _DTYPES[name]
    if limit is not None and (dtype.is_floating_point or dtype.is_complex or int(limit) < 1):
        raise UsageError(
            f"--input {part.strip()!r} has a bound that does not apply",
            expected="a bound of 1 or more, on an integer type",
        )
    if limit is None and not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool):
        raise UsageError(
            f"--input {part.strip()!r} needs a bound",
            expected=f"the number of values, such as {part.strip()}<50257",
        )
    return Drawn(dtype, shape, None if limit is None else int(limit))


def guesses(model: nn.Module) -> tuple[str, Iterable[tuple[Drawn, ...]]]:
    """What to draw for each input, in order of likelihood, and in words where that comes from.

    From the inputs or the configuration that a model declares, else from what its first layer
    takes. Empty where it takes several inputs or no layer says what it takes.
    """
    if declared_by(model):
        return "what the graph declares", declared_guesses(model)
    if is_pretrained(model):
        return "the model's configuration", pretrained_guesses(model)
    found = likely_first(model)
    if found is None or _required_inputs(model) != 1:
        return "", ()
    layer, name = found
    label = f"{name!r} ({type(layer).__name__})" if name else f"({type(layer).__name__})"
    return f"what the first layer {label} takes", [(guess,) for guess in _guess(layer)]


def _required_inputs(model: nn.Module) -> int:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return 1 if starred and not required else len(required)


def _guess(layer: nn.Module) -> tuple[Drawn, ...]:
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return tuple(Drawn(torch.int64, (8, n), layer.num_embeddings) for n in (32, 16, 8))
    parameter = next(layer.parameters())
    return tuple(Drawn(parameter.dtype, shape) for shape in _shapes(layer) if _can_be(shape))


def _can_be(shape: tuple[int, ...]) -> bool:
    """Whether what a layer says of its sizes, which may come from a file, can be drawn."""
    sound = all(type(size) is int and 0 < size <= LARGEST for size in shape)
    return sound and math.prod(shape) <= LARGEST


def _shapes(layer: nn.Module) -> list[tuple[int, ...]]:
    if isinstance(layer, nn.Linear):
        return [(32, layer.in_features)]
    if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
        return [(8, layer.in_channels, length) for length in (128, 64, 32, 1024)]
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        return [(8, layer.in_channels, side, side) for side in _IMAGE_SIDES]
    if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
        return [(4, layer.in_channels, side, side, side) for side in (16, 32)]
    if isinstance(layer, nn.RNNBase):
        return [_sequence(layer.input_size, bool(layer.batch_first))]
    if isinstance(layer, nn.RNNCellBase):
        return [(32, layer.input_size)]
    if isinstance(layer, nn.TransformerEncoder):
        return _shapes(layer.layers[0])
    if isinstance(layer, nn.TransformerEncoderLayer):
        attention = layer.self_attn
        return [_sequence(int(attention.embed_dim), bool(attention.batch_first))]
    if isinstance(layer, nn.LayerNorm):
        return [(32, *layer.normalized_shape)]
    return []


def _sequence(features: int, batch_first: bool) -> tuple[int, int, int]:
    return (8, 32, features) if batch_first else (32, 8, features)
