"""``.pt2`` archives of ``torch.export``: opened with trust only, since loading may unpickle."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.telling import told


def load_exported(path: Path, *, trust: bool) -> Loaded:
    """The unflattened, hookable module, with the example inputs it was exported with.

    Raises ``RefusedFile`` without ``trust``; ``UnreadableFile`` if torch cannot read it.
    """
    if not trust:
        raise RefusedFile(
            f"{path.name} is a torch.export archive, which torch may unpickle to open",
            next_step="if you made this file, add --trust",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.load(path)
            model = torch.export.unflatten(program)
        except Exception as error:  # torch raises whatever its reader met
            raise UnreadableFile(
                f"{path.name} cannot be read by torch.export.load", found=told(error)
            ) from None
    return Loaded("pt2", model=model, sample=program.example_inputs)
