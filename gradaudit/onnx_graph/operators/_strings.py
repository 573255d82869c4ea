"""Operators that only move values, on arrays of strings."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor


def moves_strings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``function``, written for tensors, take arrays of strings (and lists of them) as well.

    It is given each string's place in a list of all of them, and gives back where each came from.
    Place 0 is the empty string, so that what it fills with zeros is filled with that. Results other
    than the first are no strings.
    """

    @wraps(function)
    def moved(*inputs: Any, **attributes: Any) -> Any:
        for value in inputs:
            if not isinstance(value, Tensor) and _has_strings(value):
                break
        else:  # as nearly always
            return function(*inputs, **attributes)
        pool: list[Any] = [""]
        results = function(*[_places(value, pool) for value in inputs], **attributes)
        strings = np.array(pool, dtype=object)
        if isinstance(results, tuple):
            return (_strings_at(results[0], strings), *results[1:])
        return _strings_at(results, strings)

    return moved


def _has_strings(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_strings(each) for each in value)
    return isinstance(value, np.ndarray)


def _places(value: Any, pool: list[Any]) -> Any:
    if isinstance(value, list):
        return [_places(each, pool) for each in value]
    if not isinstance(value, np.ndarray):
        return value
    first = len(pool)
    pool.extend(value.reshape(-1).tolist())
    return torch.arange(first, len(pool)).reshape(value.shape)


def _strings_at(places: Any, strings: np.ndarray[Any, Any]) -> Any:
    if isinstance(places, list):
        return [_strings_at(each, strings) for each in places]
    assert isinstance(places, Tensor)
    return np.asarray(strings[places.numpy()], dtype=object).reshape(tuple(places.shape))
