"""The files of a proven cure, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from gradaudit.fixing import Fixed
from gradaudit.records import Prescription
from gradaudit.records.report import plain
from gradaudit.written.script import script


def cure_files(fixed: Fixed) -> Mapping[str, str | Callable[[Path], None]]:
    """Text, or what writes the file, for each file of the cure; none where nothing is changed."""
    if not fixed.changed:
        return {}
    assert fixed.report.prescription is not None
    return {
        "model.safetensors": lambda path: _save(fixed, path),
        "recipe.json": recipe_json(fixed.report.prescription),
        "fix.py": script(fixed),
    }


def recipe_json(prescription: Prescription) -> str:
    """``recipe.json``: null wherever nothing is prescribed."""
    return json.dumps(plain(prescription.recipe), indent=2, allow_nan=False) + "\n"


def _save(fixed: Fixed, path: Path) -> None:
    """Raises ``OSError`` where the file cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(fixed.start), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
