"""A part of a batch, where it can be told which axis counts its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gradaudit.subject.opened import Batch

_PLAIN = (bool, int, float, str)


def rows(batch: Batch) -> int | None:
    """The size of the first axis of all tensors in inputs and target.

    ``None`` where they differ, where something else than tensors and plain values is there, and
    where the model takes no other number of rows.
    """
    if batch.whole:
        return None
    leaves = list(_leaves((batch.inputs, batch.target)))
    sizes = {t.shape[0] for t in leaves if isinstance(t, Tensor) and t.dim()}
    sound = all(leaf is None or isinstance(leaf, (Tensor, *_PLAIN)) for leaf in leaves)
    return sizes.pop() if sound and len(sizes) == 1 else None


def every_nth(batch: Batch, stride: int) -> Batch:
    """Rows 0, ``stride``, 2 ``stride``, ...: spread out, since batches may be sorted."""

    def part(tensor: Tensor) -> Tensor:
        return tensor[::stride].contiguous() if tensor.dim() else tensor

    inputs, target = _mapped(batch.inputs, part), _mapped(batch.target, part)
    return replace(batch, inputs=inputs, target=target)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if type(value) in (tuple, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_mapped(item, function) for item in value)
    return value
