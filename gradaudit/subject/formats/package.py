"""``torch.package`` archives, which are never opened: they run any code they bring along."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from gradaudit.errors import RefusedFile
from gradaudit.records import Contents

_WHY = "it runs any code it brings along"
_INSTEAD = "save the model with torch.save"


def refuse_package(path: Path, _trust: bool, _device: str) -> NoReturn:
    """Raises ``RefusedFile``, trusted or not."""
    raise RefusedFile(
        f"{path.name} is a torch.package archive, which is never opened: {_WHY}",
        next_step=_INSTEAD,
    )


def inspect_package(path: Path) -> Contents:
    """Its size: what it holds and would import is decided by its code."""
    return Contents(
        source=str(path),
        kind="torch package",
        size=path.stat().st_size,
        tensors=(),
        globals=(),
        trust="never",
        why=f"{_WHY}; {_INSTEAD}",
    )
