"""numpy's numbers in a pickle: a learning rate, a best score."""

from __future__ import annotations

import struct
from typing import Any

DTYPE = "numpy.dtype"
SCALAR = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"})
_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip


class DType:
    """Stands for a ``numpy.dtype``: remembers which one was named."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Numbers that are not little endian are of no type known here."""
        if not isinstance(state, tuple) or state[1:2] not in (("<",), ("|",)):
            self.code = ""


def scalar(arguments: tuple[Any, ...], otherwise: Any) -> Any:
    """The number that numpy's ``scalar(dtype, bytes)`` stands for; ``otherwise`` for any else."""
    if len(arguments) != 2 or not isinstance(arguments[0], DType):
        return otherwise
    layout, raw = _FORMATS.get(arguments[0].code), arguments[1]
    if layout is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(f"<{layout}"):
        return otherwise
    return struct.unpack(f"<{layout}", raw)[0]
