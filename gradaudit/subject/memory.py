"""Too little memory for a batch: half of it is tried, and half of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from gradaudit.errors import ModelError
from gradaudit.subject.opened import Batch
from gradaudit.subject.sub_batch import every_nth, rows

_Result = TypeVar("_Result")
# What torch's CPU allocator says; it has no exception of its own.
_CPU_WORDS = ("can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from, is for want of memory."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(word in str(error) for word in _CPU_WORDS):
            return True
        error = error.__cause__
    return False


def halved(batches: tuple[Batch, ...]) -> tuple[Batch, ...] | None:
    """Every second sample of every batch.

    ``None`` where a batch holds one sample, or where it cannot be told which axis counts them.
    """
    sizes = [rows(batch) for batch in batches]
    if not batches or any(size is None or size < 2 for size in sizes):
        return None
    return tuple(every_nth(batch, 2) for batch in batches)


def in_memory(
    run: Callable[[tuple[Batch, ...]], _Result], batches: tuple[Batch, ...]
) -> tuple[_Result, tuple[Batch, ...], tuple[str, ...]]:
    """``run(batches)``, with half the samples for as long as memory does not suffice.

    Returns the result, the batches it is of, and a note if they are not the given ones. Raises
    ``ModelError`` where one sample is too many; other errors pass.
    """
    tried = batches
    while True:
        try:
            return run(tried), tried, _note(batches, tried)
        except Exception as error:
            if not out_of_memory(error):
                raise
        # out of the handler: what the traceback held is free by now
        smaller = halved(tried)
        if smaller is None:
            raise _too_little(tried)
        tried = smaller


def _too_little(batches: tuple[Batch, ...]) -> ModelError:
    if not batches:
        return ModelError("out of memory", next_step="run where there is more")
    count = rows(batches[0])
    size = "whose samples cannot be told apart" if count is None else f"of {count}"
    return ModelError(
        f"out of memory on a batch {size}",
        next_step="give smaller ones (--data, --input, --batch-size), or run where there is more",
    )


def _note(given: tuple[Batch, ...], used: tuple[Batch, ...]) -> tuple[str, ...]:
    if used is given:
        return ()
    return (
        f"OUT OF MEMORY: the batch of {rows(given[0])} was cut to {rows(used[0])}; "
        "gradients are noisier and rates may differ from those of the whole batch.",
    )
