"""Freed memory that the allocator keeps for itself counts in what a container is killed for."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back_memory() -> None:
    """Return what was freed to the system, where the C library is glibc; takes milliseconds.

    Between parts of a probe that allocate in different sizes: what one left in pieces is of no use
    to the next, and the process would hold both.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return None
