"""Operators of the domain ``ai.onnx.ml``."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import from_front
from gradaudit.onnx_graph.registry import operator

_DOMAIN = "ai.onnx.ml"
_NAN = object()  # the key of what is not a number, which equals nothing


@operator("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(x: Tensor, indices: Tensor) -> Tensor:
    """The elements at ``indices`` of the last axis, a vector's as a matrix of one row."""
    rows = x.unsqueeze(0) if x.dim() == 1 else x
    return rows.index_select(-1, from_front(indices, x.shape[-1]).reshape(-1))


@operator("Binarizer", domain=_DOMAIN)
def binarizer(x: Tensor, *, threshold: float = 0.0) -> Tensor:
    """1 where ``x`` is greater than the threshold, else 0."""
    return (x > threshold).to(x.dtype)


@operator("LabelEncoder", domain=_DOMAIN)
def label_encoder_of_classes(
    x: Any,
    *,
    classes_strings: Sequence[str],
    default_int64: int = -1,
    default_string: str = "_Unused",
) -> Any:
    """The place of each string among the classes, or the class at each place."""
    places = list(range(len(classes_strings)))
    if isinstance(x, np.ndarray):
        return _looked_up(x, classes_strings, places, default_int64, torch.int64)
    return _looked_up(x, places, classes_strings, default_string, None)


@operator("LabelEncoder", domain=_DOMAIN, since=2)
def label_encoder(
    x: Any,
    *,
    keys_strings: Sequence[str] | None = None,
    keys_int64s: Sequence[int] | None = None,
    keys_floats: Sequence[float] | None = None,
    keys_tensor: Any = None,
    values_strings: Sequence[str] | None = None,
    values_int64s: Sequence[int] | None = None,
    values_floats: Sequence[float] | None = None,
    values_tensor: Any = None,
    default_string: str = "_Unused",
    default_int64: int = -1,
    default_float: float = -0.0,
    default_tensor: Any = None,
) -> Any:
    """The value whose key each element is, or the default."""
    given = [keys_strings, keys_int64s, keys_floats]
    keys = next((each for each in given if each is not None), None)
    if keys is None:
        keys = keys_tensor.reshape(-1).tolist()
    if values_strings is not None:
        return _looked_up(x, keys, values_strings, default_string, None)
    if values_int64s is not None:
        return _looked_up(x, keys, values_int64s, default_int64, torch.int64)
    if values_floats is not None:
        return _looked_up(x, keys, values_floats, default_float, torch.float32)
    dtype = values_tensor.dtype if isinstance(values_tensor, Tensor) else None
    if default_tensor is not None:
        default: Any = default_tensor.reshape(-1).tolist()[0]
    elif dtype is None:
        default = default_string
    else:
        default = default_float if dtype.is_floating_point else default_int64
    return _looked_up(x, keys, values_tensor.reshape(-1).tolist(), default, dtype)


def _looked_up(
    x: Any, keys: Sequence[Any], values: Sequence[Any], default: Any, dtype: torch.dtype | None
) -> Any:
    """An array of strings without ``dtype``."""
    if len(keys) != len(values):
        raise ValueError(f"{len(keys)} keys for {len(values)} values")
    table = {_key(key): value for key, value in zip(keys, values, strict=True)}
    found = [table.get(_key(each), default) for each in x.reshape(-1).tolist()]
    if dtype is None:
        return np.array(found, dtype=object).reshape(tuple(x.shape))
    device = x.device if isinstance(x, Tensor) else None
    return torch.tensor(found, dtype=dtype, device=device).reshape(tuple(x.shape))


def _key(value: Any) -> Any:
    return _NAN if isinstance(value, float) and isnan(value) else value
