"""Hugging Face folders that bring Python code of their own, which is run: with ``--trust`` only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gradaudit.errors import UnreadableFile
from gradaudit.subject.formats.huggingface.build import attempt, offline, quiet, told_of
from gradaudit.subject.formats.huggingface.config import FolderConfig
from gradaudit.subject.formats.members import member
from gradaudit.telling import quoted


def build_trusted(folder: Path, config: FolderConfig) -> tuple[nn.Module, tuple[str, ...]]:
    """The model that the folder's own code makes of it, without network.

    Raises ``UnreadableFile`` where the code lies elsewhere, or fails.
    """
    named = config.content.get("auto_map")
    references = named if isinstance(named, dict) else {}
    model = _reference(references, config.architecture, folder)
    with quiet(), offline():
        from transformers.dynamic_module_utils import get_class_from_dynamic_module as find

        what, name = "the code in the folder", config.architecture
        keywords: dict[str, Any] = {"local_files_only": True, "trust_remote_code": True}
        cls = attempt(what, name, find, model, str(folder), local_files_only=True)
        if isinstance(references.get("AutoConfig"), str):
            made = _reference(references, references["AutoConfig"].rpartition(".")[2], folder)
            kind = attempt(what, name, find, made, str(folder), local_files_only=True)
            keywords["config"] = attempt(what, name, kind.from_pretrained, str(folder))
        built, found = attempt(
            what, name, cls.from_pretrained, str(folder),
            torch_dtype="auto", output_loading_info=True, **keywords,
        )  # fmt: skip
    return built, (f"Code in the folder was run ({quoted(model)}).", *told_of(cls, found))


def _reference(references: Mapping[str, Any], name: str, folder: Path) -> str:
    """``module.Class`` of the folder; raises ``UnreadableFile`` for code of another repository."""
    texts = [each for each in references.values() if isinstance(each, str)]
    found = next((each for each in texts if name and each.rpartition(".")[2] == name), None)
    if found is None:
        raise UnreadableFile(
            f"config.json does not say where the class {quoted(name)} is", expected="it in auto_map"
        )
    if "--" in found:
        raise UnreadableFile(
            f"config.json takes code from another repository ({quoted(found)})",
            next_step="copy that repository's Python files into the folder, and their names",
        )
    member(folder, f"{found.rpartition('.')[0]}.py")
    return found
