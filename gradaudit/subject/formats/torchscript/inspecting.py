"""What a TorchScript file holds and asks for, without opening it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from gradaudit.errors import GradauditError
from gradaudit.records.contents import Contents, GlobalEntry, TensorEntry, Trust
from gradaudit.subject.formats.programs.stored_records import stored_records
from gradaudit.subject.formats.torchscript.opening import code_of, objects_of
from gradaudit.subject.formats.torchscript.source import operators_in, parsed
from gradaudit.subject.formats.torchscript.unpickling import Stored


def inspect_torchscript(path: Path) -> Contents:
    """The tensors and operators of a file.

    Raises ``UnreadableFile`` or ``RefusedFile`` for one that cannot even be listed.
    """
    with stored_records(path) as records:
        sources = code_of(records)
        asked = operators_in(sources)
        trust: Trust = "none"
        tensors: tuple[TensorEntry, ...] = ()
        why = "every statement and operator of its code is on the exact list"
        try:
            root, constants = objects_of(records)
            tensors = tuple(_tensors({"": root, "CONSTANTS": constants}))
            parsed(sources)
        except GradauditError as error:
            trust, why = "needed", error.what
    return Contents(
        source=str(path),
        kind="torchscript",
        size=path.stat().st_size,
        tensors=tensors,
        globals=tuple(
            GlobalEntry(name, "allowed" if asked[name] else "unlisted") for name in sorted(asked)
        ),
        trust=trust,
        why=why,
    )


def _tensors(value: Any) -> Iterator[TensorEntry]:
    """Every tensor once, by the path of its first holder."""
    left, seen = [("", value)], set[int]()
    while left:
        path, item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            dtype = str(item.dtype).removeprefix("torch.")
            yield TensorEntry(path, dtype, tuple(item.shape), item.numel() * item.element_size())
            continue
        held = item.state if isinstance(item, Stored) else item
        if isinstance(held, list | tuple):
            held = dict(enumerate(held))
        if isinstance(held, dict):
            below = [(".".join(filter(None, (path, str(k)))), each) for k, each in held.items()]
            left += reversed(below)
