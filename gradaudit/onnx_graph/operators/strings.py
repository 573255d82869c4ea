"""Functions of strings: numpy arrays of objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradaudit.onnx_graph.operators._axes import one_of
from gradaudit.onnx_graph.registry import operator

_Strings = np.ndarray[Any, Any]


@operator("StringConcat")
def string_concat(x: _Strings, y: _Strings) -> _Strings:
    """Elementwise ``x + y``, broadcast."""
    return np.asarray(x + y, dtype=object)


@operator("StringSplit")
def string_split(
    x: _Strings, *, delimiter: str | None = None, maxsplit: int = -1
) -> tuple[_Strings, Tensor]:
    """Substrings along a new last axis, filled up with empty ones, and how many each has."""
    rows = [str(each).split(delimiter or None, maxsplit) for each in x.reshape(-1)]
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64).reshape(x.shape)
    longest = max((len(row) for row in rows), default=0)
    filled = np.array([row + [""] * (longest - len(row)) for row in rows], dtype=object)
    return filled.reshape((*x.shape, longest)), counts


@operator("StringNormalizer")
def string_normalizer(
    x: _Strings,
    *,
    case_change_action: str = "NONE",
    is_case_sensitive: int = 0,
    locale: str = "",
    stopwords: Sequence[str] = (),
) -> _Strings:
    """``[C]`` or ``[1, C]`` without the stop words, then in lower or upper case; never empty."""
    one_of(case_change_action, "NONE", "LOWER", "UPPER")
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise ValueError(f"strings of shape {list(x.shape)} where [C] or [1, C] was expected")
    left_out = set(stopwords) if is_case_sensitive else {each.lower() for each in stopwords}
    strings = [str(each) for each in x.reshape(-1)]
    kept = [s for s in strings if (s if is_case_sensitive else s.lower()) not in left_out]
    if case_change_action != "NONE":
        kept = [each.lower() if case_change_action == "LOWER" else each.upper() for each in kept]
    changed: _Strings = np.array(kept or [""], dtype=object)
    return changed.reshape((1, -1)) if x.ndim == 2 else changed


@operator("RegexFullMatch")
def regex_full_match(x: _Strings, *, pattern: str) -> Tensor:
    """Whether each string as a whole matches the pattern."""
    try:
        compiled = re.compile(pattern, re.ASCII)  # RE2's classes are ASCII's
    except re.error as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from error
    matched = [compiled.fullmatch(str(each)) is not None for each in x.reshape(-1)]
    return torch.tensor(matched, dtype=torch.bool).reshape(x.shape)


@operator("TfIdfVectorizer")
def tfidf_vectorizer(
    x: Tensor | _Strings,
    *,
    mode: str,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] = (),
    pool_strings: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> Tensor:
    """``[C]`` or ``[N, C]``: counts (TF), presence (IDF) or weighed counts (TFIDF) of n-grams."""
    one_of(mode, "TF", "IDF", "TFIDF")
    grams = list(_pool(list(pool_strings) or list(pool_int64s), ngram_counts))
    scale = list(weights) or [1.0] * len(grams)
    rows = x.reshape(-1, x.shape[-1]).tolist()
    table = torch.zeros(len(rows), max(ngram_indexes) + 1)
    for number, row in enumerate(rows):
        found = Counter(_ngrams(row, min_gram_length, max_gram_length, max_skip_count))
        for gram, place, weight in zip(grams, ngram_indexes, scale, strict=True):
            count = found[gram] if mode != "IDF" else min(found[gram], 1)
            table[number, place] = count if mode == "TF" else count * weight
    return table.reshape(*x.shape[:-1], -1).to(getattr(x, "device", None))


def _pool(items: Sequence[Any], starts: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """The n-grams of the pool: 1-grams from ``starts[0]`` on, 2-grams from ``starts[1]``, ..."""
    for length, (first, last) in enumerate(pairwise([*starts, len(items)]), 1):
        for place in range(max(first, 0), min(last, len(items)), length):
            yield tuple(items[place : place + length])


def _ngrams(row: Sequence[Any], low: int, high: int, skips: int) -> Iterator[tuple[Any, ...]]:
    # bounded by the row's length: the file's numbers may be anything
    for length in range(max(low, 1), min(high, len(row)) + 1):
        for step in range(1, min(skips, len(row)) + 2 if length > 1 else 2):
            for first in range(len(row) - (length - 1) * step):
                yield tuple(row[first : first + (length - 1) * step + 1 : step])
