"""Tensors out of a file's bytes, by plain reads: nothing is mapped, what is dropped is freed."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gradaudit.errors import UnreadableFile
from gradaudit.subject.formats.declared import reach

_PIECE = 1 << 26  # bytes asked for at once


def read_tensor(
    path: Path,
    begin: int,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
) -> Tensor:
    """The tensor whose first entry lies ``begin`` bytes into the file, little endian, on the CPU.

    ``stride`` counts entries; ``None`` is row after row. The caller has held begin, shape and
    stride against the file's size; a file that has shrunk since raises ``UnreadableFile``.
    """
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    extent = math.prod(shape) if stride is None else reach(shape, stride)
    raw = torch.empty(extent * dtype.itemsize, dtype=torch.uint8)
    _fill(raw.numpy().data, path, begin)
    values = raw.view(dtype)
    return values.view(shape) if stride is None else values.as_strided(shape, stride)


def _fill(buffer: memoryview, path: Path, begin: int) -> None:
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(begin)
            done = 0
            while done < len(buffer):
                count = stream.readinto(buffer[done : done + _PIECE])
                if not count:
                    raise UnreadableFile(f"{path} ends too early", found="it shrank while read")
                done += count
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read", found=error.strerror or str(error)) from None
