"""Hugging Face checkpoint folders: a model where it can be built safely, else its weights."""

from __future__ import annotations

from pathlib import Path

from gradaudit.records import Contents
from gradaudit.subject.formats.huggingface.config import FolderConfig, read_config
from gradaudit.subject.formats.huggingface.shards import Shards, read_shards
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.telling import quoted


def load_huggingface(path: Path, *, trust: bool) -> Loaded:
    """The model that ``config.json`` describes, of a class of transformers' own, else the weights.

    Python files in the folder are run with ``trust`` only. Raises ``RefusedFile`` or
    ``UnreadableFile`` for a folder that is damaged or leads outside itself.
    """
    shards = read_shards(path, trust=trust)
    config = read_config(path)
    why = _not_built(config)
    if config is not None and not config.quantized:
        built = _built(path, config, shards, trust=trust)
        if isinstance(built, Loaded):
            return built
        why = built
    return _weights(shards, why)


def huggingface_weights(path: Path, why: str) -> Loaded:
    """The weights in the folder alone; ``why`` there is no model. Raises as above."""
    return _weights(read_shards(path), why)


def _weights(shards: Shards, why: str) -> Loaded:
    note = f"transformers does not build the model: {why}."
    return Loaded("Hugging Face weights", weights=shards.weights, notes=(note, *shards.notes))


def _built(path: Path, config: FolderConfig, shards: Shards, *, trust: bool) -> Loaded | str:
    """The model, or why there is none."""
    # transformers takes seconds to import
    from gradaudit.subject.formats.huggingface.build import build, find_class

    if config.custom_code and not trust:
        return _not_built(config)
    if config.custom_code:
        from gradaudit.subject.formats.huggingface.trusted import build_trusted

        model, notes = build_trusted(path, config)
    else:
        found = find_class(config)
        if isinstance(found, str):
            return found
        model, notes = build(found, config, shards.weights)
    return Loaded("Hugging Face model", model=model, notes=(*shards.notes, *notes))


def _not_built(config: FolderConfig | None) -> str:
    """Why no model is to be built of this configuration; empty where it may be tried."""
    if config is None:
        return "the folder has no config.json"
    if config.quantized:
        return f"its weights are quantized ({quoted(config.quantized)}), and cannot be trained"
    if config.custom_code:
        return (
            "config.json asks for Python code of its own (auto_map), which is run only with "
            "--trust; if you know that code, add it"
        )
    return ""


def inspect_huggingface(path: Path) -> Contents:
    """What the folder holds; nothing is imported or built. Raises as :func:`load_huggingface`."""
    shards = read_shards(path)
    config = read_config(path)
    return Contents(
        source=str(path),
        kind="huggingface",
        size=sum(file.stat().st_size for file in shards.files),
        tensors=tuple(each.entry for each in shards.weights.entries()),
        globals=(),
        trust="none",
        why="tensors and JSON; Python files of the folder are run only with --trust",
        notes=(*_described(shards, config), *shards.notes),
    )


def _described(shards: Shards, config: FolderConfig | None) -> tuple[str, ...]:
    files = f"weights in {len(shards.files)} files ({shards.first})"
    if config is None:
        return (files, "no config.json")
    named = quoted(config.architecture) if config.architecture else "none"
    notes = [files, f"class: {named}, model type: {quoted(config.model_type)}"]
    why = _not_built(config)
    return (*notes, f"not built: {why}") if why else tuple(notes)
