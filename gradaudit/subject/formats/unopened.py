"""Containers gradaudit knows but does not open."""

from __future__ import annotations

from pathlib import Path

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.records import Contents

_NAMES = {
    "huggingface": "a Hugging Face checkpoint folder",
    "distributed checkpoint": "a torch.distributed.checkpoint folder",
}
_INSTEAD = {
    "huggingface": "write a factory around from_pretrained and name it: file.py:name",
    "distributed checkpoint": "make one file of it with "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
}


def refuse(kind: str, path: Path) -> GradauditError:
    """The error that tells what ``path`` is and what to do instead."""
    if kind == "torch package":
        return RefusedFile(
            f"{path.name} is a torch.package archive, which runs any code it brings along",
            next_step="gradaudit never opens one; save the model with torch.save",
        )
    return UnreadableFile(
        f"{path.name} is {_NAMES[kind]}, which this version does not open yet",
        next_step=_INSTEAD[kind],
    )


def inspect_package(path: Path) -> Contents:
    """A ``torch.package`` archive: what it would import is decided by code that it brings along."""
    return Contents(
        source=str(path),
        kind="torch package",
        size=path.stat().st_size,
        tensors=(),
        globals=(),
        trust="never",
        why="it runs any code it brings along, and nothing in it says what its tensors are; "
        "save the model with torch.save",
    )
