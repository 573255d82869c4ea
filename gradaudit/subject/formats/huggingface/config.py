"""``config.json``: whose model it describes, and numbers that its weights can account for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradaudit.errors import RefusedFile
from gradaudit.json_object import read_object
from gradaudit.subject.formats.members import member
from gradaudit.subject.formats.next_steps import HOSTILE_FOLDER
from gradaudit.telling import quoted

_LARGEST = 4 << 20  # bytes; the longest of real ones list thousands of labels
_COUNTED = ("layer", "depth", "block", "stage", "expert", "head")  # in names of numbers
_MOST_COUNTED = 1 << 16
_PLACES = ("position", "length", "token", "window", "chunk", "context", "seq", "ctx")
_MOST_PLACES = 1 << 24
_SCALES = ("theta", "rotary_emb_base", "time_step_limit", "mask_value")  # they size nothing
_MOST = 1 << 17  # of any other, unless a tensor in the file has that size
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_LONGEST = 4096  # entries of a list: of one per layer, per frequency, per token left out


@dataclass(frozen=True)
class FolderConfig:
    """The parts of a ``config.json`` that say what it is."""

    content: Mapping[str, Any]
    architecture: str  # "" where it names none
    model_type: str
    custom_code: bool  # it names Python files of the folder or of another repository
    quantized: str  # the method, or ""


def read_config(folder: Path) -> FolderConfig | None:
    """The folder's configuration; ``None`` where there is none.

    Raises ``UnreadableFile`` or ``RefusedFile`` where it is no JSON object of bearable size.
    """
    if not (folder / "config.json").exists() and not (folder / "config.json").is_symlink():
        return None
    content = _floats(read_object(member(folder, "config.json"), most=_LARGEST))
    names = content.get("architectures")
    named = isinstance(names, list) and bool(names) and isinstance(names[0], str)
    model_type, quantization = content.get("model_type"), content.get("quantization_config")
    return FolderConfig(
        content=content,
        architecture=str(names[0]) if named and names is not None else "",
        model_type=model_type if isinstance(model_type, str) else "",
        custom_code=bool(_anywhere(content, "auto_map")),
        quantized=_method(quantization) if quantization is not None else "",
    )


def _floats(value: Any) -> Any:
    """``{"__float__": "Infinity"}``, which transformers writes for it, as the number."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return _FLOATS.get(str(value["__float__"]), value)
        return {name: _floats(each) for name, each in value.items()}
    return [_floats(each) for each in value] if isinstance(value, list) else value


def _method(quantization: Any) -> str:
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return method if isinstance(method, str) and method else "an unnamed method"


def _anywhere(content: Mapping[str, Any], name: str) -> bool:
    return any(path[-1] == name for path, _ in _entries(content))


def check_numbers(content: Mapping[str, Any], sizes: set[int]) -> None:
    """Hold every number of the configuration against what a model of these weights can have.

    ``sizes``: of the axes of the tensors in the file. Raises ``RefusedFile`` naming the number.
    """
    for path, value in _entries(content):
        if isinstance(value, list) and len(value) > _LONGEST:
            raise RefusedFile(
                f"config.json has a list {quoted('.'.join(path))} of {len(value):,} entries",
                expected=f"at most {_LONGEST:,}",
                next_step=HOSTILE_FOLDER,
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        most, counted = _most(path[-1])
        large = not isinstance(value, float) or value.is_integer()
        if large and abs(value) > most and (counted or value not in sizes):
            shown = f"{value:,}" if abs(value) < 10**18 else f"{value:.3g}"
            raise RefusedFile(
                f"config.json asks for {quoted('.'.join(path))} = {shown}",
                expected=f"at most {most:,}" + ", or the size of a tensor" * (not counted),
                next_step=HOSTILE_FOLDER,
            )


def _most(name: str) -> tuple[int | float, bool]:
    """The largest number of that name, and whether it counts parts rather than sizes them."""
    name = name.lower()
    if name.endswith(_SCALES):
        return math.inf, True
    if any(part in name for part in _PLACES):
        return _MOST_PLACES, True
    if any(part in name for part in _COUNTED):
        return _MOST_COUNTED, True
    return _MOST, False


def _entries(content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in the tree with the names that lead there; a list's entries bear its name."""
    todo: list[tuple[tuple[str, ...], Any]] = [((str(k),), v) for k, v in content.items()]
    while todo:
        path, value = todo.pop()
        yield path, value
        if isinstance(value, dict):
            todo.extend(((*path, str(key)), item) for key, item in value.items())
        elif isinstance(value, list):
            todo.extend((path, item) for item in value)
