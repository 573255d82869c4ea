"""Detection models of Ultralytics."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gradaudit.subject.formats.loaded import Loaded


def is_ultralytics(model: nn.Module) -> bool:
    """Whether the class is of that package."""
    return type(model).__module__.partition(".")[0] == "ultralytics"


def as_trained(model: nn.Module, kind: str, path: Path) -> Loaded:
    return Loaded(kind, model=model.float())
