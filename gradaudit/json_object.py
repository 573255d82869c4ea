"""JSON written by others: bounded in size and depth, and without a name that stands twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.telling import quoted, told

_DEEPEST = 64


def read_object(path: Path, *, most: int) -> dict[str, Any]:
    """The JSON object in the file at ``path``, of ``most`` bytes or fewer.

    Raises ``RefusedFile`` for a larger one, ``UnreadableFile`` for anything but one object.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(most + 1)
    except OSError as error:
        raise UnreadableFile(
            f"{path.name} cannot be read", found=error.strerror or str(error)
        ) from None
    if len(text) > most:
        raise RefusedFile(
            f"{path.name} is larger than any of its kind",
            expected=f"at most {most:,} bytes",
            found=f"{path.stat().st_size:,}",
            next_step="the file is damaged or hostile",
        )
    return parsed_object(text, path.name)


def parsed_object(text: bytes, what: str) -> dict[str, Any]:
    """The JSON object that ``text`` is. Raises ``UnreadableFile`` for anything but one object."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:  # not UTF-8, not JSON, a number of 5,000 digits, a name twice
        raise UnreadableFile(f"{what} is not JSON", found=told(error)) from None
    if not isinstance(found, dict):
        raise UnreadableFile(
            f"{what} holds no JSON object", expected="{...}", found=type(found).__name__
        )
    _check_depth(found, what)
    return found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of ``pairs``, as json's ``object_pairs_hook``; ``ValueError`` for a name twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {quoted(name)} stands twice")
        found[name] = value
    return found


def levels(found: Any, deepest: int) -> Iterator[list[Any]]:
    """All values in a table or list, level by level; ``RecursionError`` beyond ``deepest``."""
    level = [found]
    for _ in range(deepest):
        inner = [
            value for each in level for value in (each.values() if isinstance(each, dict) else each)
        ]
        yield inner
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return
    raise RecursionError


def _check_depth(found: Any, what: str) -> None:
    try:
        for _ in levels(found, _DEEPEST):
            pass
    except RecursionError:
        raise _too_deep(what) from None


def _too_deep(what: str) -> UnreadableFile:
    return UnreadableFile(
        f"{what} is nested too deep", expected=f"at most {_DEEPEST} objects in each other"
    )
